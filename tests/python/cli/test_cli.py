"""The command line from a file to a recommendation: output, exit codes, one sentence for an expected error."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading

import numpy as np
import pytest

import neuralcf
from neuralcf.cli import main
from neuralcf.cli.doctor import cgroup_quota

TRAIN = ["--epochs", "2", "--factors", "4", "--layers", "8,4", "--batch-size", "64"]


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """Forty users with two tastes: even users rate five of ten even items, odd users five of ten odd ones."""
    random = np.random.default_rng(0)
    lines = ["who,what,stars,time"]
    for user in range(40):
        for at, item in enumerate(random.permutation(10)[:5]):
            lines.append(f"u{user},{2 * item + user % 2},{4 + at % 2},{1000 + at}")
        lines.append(f"u{user},99,1,2000")  # rated low
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


COLUMNS = ["--user-column", "who", "--item-column", "what", "--rating-column", "stars", "--timestamp-column", "time"]


@pytest.fixture(scope="module")
def model(ratings, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "deep" / "model"
    assert main(["train", str(ratings), "--out", str(path), "--min-rating", "3", *COLUMNS, *TRAIN]) == 0
    return path


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_train_prints_a_summary(ratings, tmp_path, capsys):
    code, out, err = run(
        capsys, "train", ratings, "--out", tmp_path / "model", "--min-rating", 3, "--model", "mlp", *COLUMNS, *TRAIN
    )
    assert code == 0
    assert err == ""  # no progress bar without a terminal
    assert "240 rows, columns user=who, item=what, rating=stars, timestamp=time" in out
    assert "skipped: 40 below the minimum rating, 0 duplicates" in out
    assert re.search(r"training on 160 interactions of 40 users with \d+ items", out)
    assert len(re.findall(r"(HR|NDCG)@10 +0\.\d{4} +0\.\d{4}", out)) == 4


def test_train_writes_a_complete_model(model):
    config = json.loads((model / "config.json").read_text())
    assert config["training"]["layers"] == [8, 4]
    ranks = [f"{name}@{k}" for name in ("HR", "NDCG", "Recall", "MRR", "Precision", "MAP") for k in (5, 10, 20)]
    ranks.append("AUC")
    names = {
        "1 + 99": ranks,
        "all items": ranks + [f"{name}@{k}" for name in ("Novelty", "Coverage") for k in (5, 10, 20)],
    }
    for among, expected in names.items():
        assert sorted(m["name"] for m in config["metrics"] if m["among"] == among) == sorted(expected)
    assert all(metric["protocol"] for metric in config["metrics"])
    assert len(config["data"]["fingerprint"]) == 64
    assert "| HR@10 |" in (model / "README.md").read_text()
    recommender = neuralcf.Recommender.load(model)
    everything = recommender.recommend("u0", 99)
    assert everything.counts == recommender.num_items - 4  # five interactions, the last one held out


def test_recommend(model, capsys):
    code, out, _ = run(capsys, "recommend", model, "--user", "u3", "-k", 4)
    assert code == 0
    best = neuralcf.Recommender.load(model).recommend("u3", 4)
    assert [line.split()[1] for line in out.splitlines()] == [str(item) for item in best.ids]
    code, out, _ = run(capsys, "recommend", model, "--user", "u3", "-k", 4, "--json")
    assert json.loads(out) == {
        "user": "u3",
        "items": [{"item": int(i), "score": float(s)} for i, s in zip(best.ids, best.scores, strict=True)],
    }
    code, out, err = run(capsys, "recommend", model, "--user", "u3", "-k", 10**9, "--include-seen")
    assert len(out.splitlines()) == neuralcf.Scorer.load(model).num_items
    assert "items are left for this user" in err


def test_recommend_with_titles(model, tmp_path, capsys):
    ids = neuralcf.Recommender.load(model).recommend("u3", 4).ids.tolist()
    (tmp_path / "items.csv").write_text("name,id\n" + "".join(f'"Title, {item}",{item}\n' for item in ids[1:]))
    arguments = ["recommend", model, "--user", "u3", "-k", 4, "--items", tmp_path / "items.csv"]
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split()[1:-1] == [str(ids[0])]  # no title: the id alone
    assert [line.split("  ")[-1] for line in out.splitlines()[1:]] == [f"Title, {item}" for item in ids[1:]]
    code, out, err = run(capsys, *arguments, "--json")
    assert [row["title"] for row in json.loads(out)["items"]] == [None] + [f"Title, {item}" for item in ids[1:]]


def test_ids_are_parsed_by_the_models_type(tmp_path, capsys):
    (tmp_path / "pairs.tsv").write_text("".join(f"{user}\t{item}\n" for user in (7, 8) for item in range(5 + user)))
    code, out, err = run(capsys, "train", tmp_path / "pairs.tsv", "--out", tmp_path / "model", *TRAIN)
    assert (code, err) == (0, "")
    code, out, _ = run(capsys, "recommend", tmp_path / "model", "--user", "7", "--json")
    assert json.loads(out)["user"] == 7
    for text in ("seven", "1_000", " 7", "\u0667"):
        code, _, err = run(capsys, "recommend", tmp_path / "model", "--user", text)
        assert (code, err) == (2, f"neuralcf: --user: this model's ids are integers, got {text!r}\n")


def test_models_of_other_programs_are_shown(tmp_path):
    """A metric that is not a number, ids that the terminal cannot show, no stored interactions."""
    metric = {"name": "HR@10", "value": "n/a", "protocol": "none"}
    neuralcf.save(dict(EMPTY), tmp_path / "m", kind="gmf", ids=(["ü"], ["日本"]), config={"metrics": [metric]})

    def command(*arguments):
        command = [sys.executable, "-m", "neuralcf", *map(str, arguments)]
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert re.search(r"HR@10 +n/a +none", command("inspect", tmp_path / "m").stdout)
    rejected = command("recommend", tmp_path / "m", "--user", "ü")
    assert (rejected.returncode, "pass --include-seen" in rejected.stderr) == (2, True)
    shown = command("recommend", tmp_path / "m", "--user", "ü", "--include-seen")
    assert (shown.returncode, shown.stderr) == (0, "neuralcf: only 1 items are left for this user\n")
    assert r"\u65e5\u672c" in shown.stdout


def test_inspect_and_doctor(model, capsys):
    code, out, _ = run(capsys, "inspect", model, "--json")
    facts = json.loads(out)
    assert (code, facts["kind"], facts["user_ids"], facts["item_ids"], facts["seen"]) == (
        0,
        "neumf",
        "str",
        "int64",
        True,
    )
    assert facts["config"]["model_id"] == facts["metadata"]["model_id"]
    code, out, _ = run(capsys, "inspect", model / "model.safetensors")
    assert code == 0
    assert "neumf, 40 users" in out
    assert f"float32 with {facts['isa']} ({facts['scan_reason']})" in out
    code, out, _ = run(capsys, "doctor", "--json")
    facts = json.loads(out)
    assert facts["instruction_set"]["chosen"] in facts["instruction_set"]["supported"]
    assert facts["threads"]["chosen"] >= 1
    assert facts["problem"] is None
    assert run(capsys, "doctor")[1].startswith("instruction set")


def test_doctor_explains_a_wrong_setting(capsys, monkeypatch):
    monkeypatch.setenv("NEURALCF_ISA", "sse9")
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert re.match(r"PROBLEM +.*NEURALCF_ISA.*sse9", out)
    assert re.search(r"NEURALCF_ISA +sse9", out)


def test_cgroup_quotas(tmp_path):
    def host(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    assert cgroup_quota(tmp_path) is None
    host({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"})
    assert cgroup_quota(tmp_path) is None
    host({"sys/fs/cgroup/a/cpu.max": "150000 100000\n"})  # a limit of the parent group
    assert cgroup_quota(tmp_path) == 1.5
    host({"proc/self/cgroup": "4:cpu,cpuacct:/c\n3:memory:/c\n"})
    host({f"sys/fs/cgroup/cpu/c/cpu.cfs_{name}_us": f"{n}\n" for name, n in (("quota", 50000), ("period", 100000))})
    assert cgroup_quota(tmp_path) == 0.5


def test_expected_errors_are_one_sentence(model, ratings, tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("user,item,timestamp\n1,2,x\n")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "letter").write_text("keep")
    neuralcf.save(dict(EMPTY), tmp_path / "bare", kind="gmf")
    for arguments, message in [
        (["recommend", tmp_path / "absent", "--user", "u1"], "absent"),
        (["recommend", model, "--user", "nobody"], "users: not in the model: 'nobody'"),
        (["recommend", tmp_path / "bare", "--user", "1"], "saved without ids"),
        (["inspect", ratings], "ratings.csv"),
        (["train", tmp_path / "absent.csv", "--out", tmp_path / "m"], "absent.csv"),
        (["train", tmp_path / "bad.csv", "--out", tmp_path / "m"], "bad.csv:2: timestamp: expected a date, got 'x'"),
        (["train", ratings, "--out", tmp_path / "things", *COLUMNS], "holds other files but no model.safetensors"),
        (["train", ratings, "--out", tmp_path / "m.safetensors"], "--out: expected a directory"),
        (["train", ratings, "--out", tmp_path / "m", "--user-column", "nobody"], "nobody"),
        (["train", ratings, "--out", tmp_path / "m", "--lr", "-1"], "learning_rate: expected"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert code == 2, (arguments, err)
        assert out == ""
        assert re.fullmatch(r"neuralcf: [^\n]+\n", err)
        assert message in err
    assert not (tmp_path / "m").exists()


EMPTY = {
    "gmf.user_embedding.weight": np.ones((1, 1), np.float32),
    "gmf.item_embedding.weight": np.ones((1, 1), np.float32),
    "output.weight": np.ones((1, 1), np.float32),
    "output.bias": np.ones(1, np.float32),
}


def test_usage_errors_and_help(capsys):
    for arguments in ([], ["paint"], ["recommend", "m"], ["recommend", "m", "--user", "1", "-k", "0"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
    capsys.readouterr()
    for command in ("train", "evaluate", "compare", "recommend", "inspect", "doctor", "demo"):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
        assert f"example:\n  neuralcf {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"neuralcf {neuralcf.__version__}\n"


def test_a_missing_extra_is_one_sentence(ratings, tmp_path):
    program = "import sys; sys.modules['torch'] = None; from neuralcf.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "train", ratings, "--out", tmp_path / "model"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        "neuralcf: this command needs torch: pip install 'neuralcf[train]'\n",
    )


def test_commands_import_only_what_they_need(model):
    """Torch takes a second to import, pyarrow and matplotlib a tenth."""
    program = """if True:
        import sys
        from neuralcf.cli import main
        for arguments in (["doctor"], ["inspect", sys.argv[1]], ["recommend", sys.argv[1], "--user", "u3"]):
            assert main(arguments) == 0
        try:
            main(["--help"])
        except SystemExit:
            print(sorted({"numpy", "torch", "pyarrow", "matplotlib"} & sys.modules.keys()))
    """
    command = [sys.executable, "-c", program, str(model)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "['numpy']"


@pytest.mark.parametrize(
    ("preset", "endless", "begun"),
    [
        ("fast", ["history_epochs=1000000"], b"history: "),
        ("neumf", ["epochs=1000000", "patience=0"], b"epoch=2"),
    ],
)
def test_ctrl_c_stops_training(ratings, tmp_path, preset, endless, begun):
    """Training that would go on for hours is interrupted when its progress bar tells that it has begun."""
    settings = [word for setting in endless for word in ("--set", setting)]
    arguments = ["train", ratings, "--out", tmp_path / "model", "--preset", preset, *COLUMNS, *settings]
    command = [sys.executable, "-m", "neuralcf", *map(str, arguments)]
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))  # the bar needs a width
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as training:
        os.close(stderr)
        guard = threading.Timer(60, training.kill)
        guard.start()
        shown = b""
        while begun not in shown:
            shown += os.read(terminal, 4096)
        os.kill(training.pid, signal.SIGINT)
        with contextlib.suppress(OSError):  # how a terminal tells that nobody holds its other end
            while part := os.read(terminal, 4096):
                shown += part
        assert training.wait() == 130
        guard.cancel()
    os.close(terminal)
    assert shown.endswith(b"\r\nneuralcf: interrupted\r\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("set_before", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_sleep_while_they_wait_unless_told_otherwise(ratings, tmp_path, set_before, expected):
    program = """if True:
        import os, sys
        class Watch:
            def find_spec(self, name, *where):
                if name == "torch":
                    sys.exit(os.environ.get("OMP_WAIT_POLICY"))  # what OpenMP reads when torch loads it
        sys.meta_path.insert(0, Watch())
        from neuralcf.cli import main
        main(sys.argv[1:])
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": set_before} if set_before else {}
    command = [sys.executable, "-c", program, "train", ratings, "--out", tmp_path / "model"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (1, f"{expected}\n")
