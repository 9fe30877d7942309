"""Lists for many users: every format holds what `recommend` returns; resumed, whole or not at all."""

import csv
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import numpy as np
import pyarrow.parquet
import pytest

import neuralcf
from neuralcf import Recommender
from neuralcf.batch import lists
from neuralcf.cli import main

USERS, ITEMS = 23, 9


@pytest.fixture(params=["int", "str"])
def model(request, tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((USERS, 3), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((ITEMS, 3), dtype=np.float32),
        "output.weight": np.ones((1, 3), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    ids = np.arange(USERS) - 3, np.arange(ITEMS) * 2
    if request.param == "str":
        ids = [f'-u"{n},' for n in range(USERS)], [f"ü{n}" for n in range(ITEMS)]
    seen = np.concatenate([[0], np.full(USERS, ITEMS)]).cumsum() * 0 + np.minimum(np.arange(USERS + 1), 1) * ITEMS
    neuralcf.save(tensors, tmp_path / "m", kind="gmf", ids=ids, seen=(seen, np.arange(ITEMS)))  # the first has it all
    return tmp_path / "m"


def expected(model, k, users=None):
    recommender = Recommender.load(model)
    users = recommender.user_ids.take(np.arange(USERS)) if users is None else users
    found = recommender.recommend(users, k)
    for n, user in enumerate(users.tolist() if isinstance(users, np.ndarray) else users):
        for rank in range(found.counts[n]):
            yield user, rank + 1, found.ids[n, rank], found.scores[n, rank]


def read(path):
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        return list(zip(*(table[name].to_pylist() for name in ("user", "rank", "item", "score")), strict=True))
    if path.suffix == ".jsonl":
        objects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(objects) == USERS
        return [
            (each["user"], rank, item["item"], item["score"])
            for each in objects
            for rank, item in enumerate(each["items"], start=1)
        ]
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["user", "rank", "item", "score"]
    return [(user, int(rank), item, float(score)) for user, rank, item, score in rows]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_format_holds_the_lists(model, tmp_path, monkeypatch, capsys, ending):
    monkeypatch.setattr(lists, "_CHUNK", 5)
    out = tmp_path / f"lists{ending}"
    assert main(["recommend", str(model), "--all-users", "-k", "4", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{4 * (USERS - 1)} items for {USERS - 1} users written to {out}\n"
    assert printed.err == "neuralcf: 1 users have fewer than 4 items left\n"
    rows = list(expected(model, 4))
    if ending == ".csv":
        rows = [(str(user), rank, str(item), score) for user, rank, item, score in rows]
    assert read(out) == [(user, rank, item, float(score)) for user, rank, item, score in rows]
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "m"]


def test_a_stopped_call_goes_on_and_leaves_the_old_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "_CHUNK", 5)
    recommender, out = Recommender.load(model), tmp_path / "lists.csv"
    out.write_text("old")

    def stop(done, _):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lists.write_lists(recommender, out, k=2, progress=stop)
    assert out.read_text() == "old"

    scored = []
    monkeypatch.setattr(Recommender, "recommend", counting(Recommender.recommend, scored))
    lists.write_lists(recommender, out, k=2)
    assert scored == [5, 5, 3]
    assert len(read(out)) == 2 * (USERS - 1)
    with pytest.raises(KeyboardInterrupt):
        lists.write_lists(recommender, out, k=2, progress=stop)
    scored.clear()
    lists.write_lists(recommender, out, k=3)  # another call begins anew
    assert sum(scored) == USERS


def counting(recommend, scored):
    def wrapped(self, users, *arguments, **options):
        scored.append(len(users))
        return recommend(self, users, *arguments, **options)

    return wrapped


def test_users_of_a_file(model, tmp_path, capsys):
    ids = Recommender.load(model).user_ids.take(np.arange(USERS))
    (tmp_path / "users.txt").write_text(f"\ufeff{ids[7]}\n\n{ids[2]}\nnobody\n{ids[7]}\n", encoding="utf-8")
    out = tmp_path / "few.parquet"
    command = ["recommend", str(model), "--users-file", str(tmp_path / "users.txt"), "-k", "2", "--out", str(out)]
    assert main(command) == 0
    assert "1 users are not in the model, such as 'nobody'; left out" in capsys.readouterr().err
    chosen = [ids[7], ids[2]]
    assert [row[:3] for row in read(out)] == [row[:3] for row in expected(model, 2, chosen)]


def test_titles_and_errors(model, tmp_path, capsys):
    items = Recommender.load(model).item_ids.take(np.arange(ITEMS))
    (tmp_path / "items.csv").write_text("id,title\n" + "".join(f"{item},T{item}\n" for item in items), encoding="utf-8")
    out = tmp_path / "lists.csv"
    command = ["recommend", str(model), "--all-users", "--out", str(out)]
    assert main([*command, "--items", str(tmp_path / "items.csv")]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(row["title"] == f"T{row['item']}" for row in rows)
    capsys.readouterr()
    (tmp_path / "strangers").write_text("x\ny\n")
    for arguments, message in [
        (["--all-users"], "--all-users, --users-file: expected --out with them"),
        (["--all-users", "--out", "lists.xlsx"], "--out: expected a name that ends in .csv"),
        (["--user", "1", "--out", "a.csv"], "--out: expected --all-users or --users-file with it"),
        (["--users-file", str(tmp_path / "strangers"), "--out", "a.csv"], "expected users of the model, an id on each"),
    ]:
        assert main(["recommend", str(model), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_bar_on_a_terminal_only(model, tmp_path):
    """On stderr, as training shows one; a file or a pipe gets none."""
    pytest.importorskip("tqdm")
    program = [sys.executable, "-m", "neuralcf", "recommend", str(model), "--all-users", "--out"]
    quiet = subprocess.run([*program, str(tmp_path / "a.csv")], capture_output=True, check=True)
    assert b"recommend:" not in quiet.stderr
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    done = subprocess.run([*program, str(tmp_path / "b.csv")], stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "recommend: 100%|" in shown
    assert f" {USERS}/{USERS} [" in shown
    assert done.stdout.replace(b"b.csv", b"a.csv") == quiet.stdout
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
