"""`neuralcf evaluate` and `neuralcf compare`: from files to metrics, and rejected input."""

import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import neuralcf
from neuralcf.baselines import BASELINES, EASE, IALS, GraphFilter, ItemKNN, Popularity
from neuralcf.cli import main
from neuralcf.data import hold_out, read_interactions
from neuralcf.evaluation.protocols import candidates_for, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation

USERS, ITEMS = 30, 25


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """Interactions with string ids, not in order."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", at) for u in range(USERS) for at, i in enumerate(rng.permutation(ITEMS)[:6])]
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"{u},{i},{at}\n" for u, i, at in rows))
    return path


def save(path, users, items, ids=None, config=None, seed=0):
    rng = np.random.default_rng(seed)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((users, 4)),
        "gmf.item_embedding.weight": rng.standard_normal((items, 4)),
        "output.weight": np.ones((1, 4)),
        "output.bias": np.zeros(1),
    }
    neuralcf.save({k: v.astype(np.float32) for k, v in tensors.items()}, path, kind="gmf", ids=ids, config=config)
    return path


@pytest.fixture(scope="module")
def dataset(ratings):
    return read_interactions(ratings)[0]


@pytest.fixture(scope="module")
def models(dataset, tmp_path_factory):
    """Two models whose config.json records the ratings as their data."""
    config = {"training": {"seed": 3}, "data": {"fingerprint": dataset.fingerprint()}}
    ids, folder = (dataset.user_ids, dataset.item_ids), tmp_path_factory.mktemp("models")
    return [save(folder / name, USERS, len(ids[1]), ids, config, seed) for seed, name in enumerate("ab")]


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_evaluate_full(models, dataset, ratings, tmp_path, capsys):
    baselines = [kind(hold_out(dataset).train) for kind in (Popularity, ItemKNN, EASE, IALS, GraphFilter)]
    out, per_user = tmp_path / "out.json", tmp_path / "values.npz"
    options = ["-k", 3, 8, "--baselines", *BASELINES, "--out", out, "--per-user", per_user]
    code, text, err = run(capsys, "evaluate", models[0], ratings, *options)
    assert (code, err) == (0, "")
    facts = json.loads(out.read_text())
    expected = [
        evaluate_full(r, hold_out(dataset), (3, 8), lists=True) for r in (neuralcf.Scorer.load(models[0]), *baselines)
    ]
    for name, evaluation in zip((str(models[0]), *BASELINES), expected, strict=True):
        assert {metric: entry["mean"] for metric, entry in facts["results"][name].items()} == evaluation.means
        assert all(entry["protocol"] == evaluation.protocol for entry in facts["results"][name].values())
        for metric, mean in evaluation.means.items():
            assert re.search(rf"^{metric} .*{mean:.4f}.* {evaluation.protocol}$", text, re.MULTILINE)
    stored = Evaluation.load(per_user)
    assert stored.users == dataset.user_ids
    assert stored.per_user["NDCG@8"].tolist() == expected[0].per_user["NDCG@8"].tolist()


def test_sampled_candidates(models, dataset, ratings, capsys):
    code, text, _ = run(capsys, "evaluate", models[0], ratings, "--protocol", "1+99", "-k", 2, "--seed", 5, "--json")
    split = hold_out(dataset)
    rows = candidates_for(split, seed=5)
    expected = evaluate_candidates(neuralcf.Scorer.load(models[0]), split.users, split.items, *rows, 2)
    result = json.loads(text)["results"][str(models[0])]
    assert (code, {metric: entry["mean"] for metric, entry in result.items()}) == (0, expected.means)
    assert "drawn with seed 5" in result["HR@2"]["protocol"]


def test_the_papers_files_and_a_model_without_ids(tmp_path, capsys):
    """Two users with two training items each; one held-out item is among its own candidates."""
    model = save(tmp_path / "model", 2, 7)
    (tmp_path / "x.train.rating").write_text("0\t0\t1\n0\t1\t1\n1\t2\t1\n1\t3\t1\n")
    (tmp_path / "x.test.rating").write_text("0\t4\t1\n1\t6\t1\n")
    (tmp_path / "x.test.negative").write_text("(0,4)\t5\t6\t4\n(1,6)\t4\t5\t0\n")
    code, text, err = run(capsys, "evaluate", model, tmp_path / "x", "--protocol", "1+99", "-k", 1, 2, "--json")
    assert (code, err) == (0, "")
    scores = neuralcf.Scorer.load(model).score_batch([0, 0, 0, 1, 1, 1, 1], [4, 5, 6, 6, 4, 5, 0], logits=True)
    ranks = np.array([(scores[1:3] >= scores[0]).sum(), (scores[4:] >= scores[3]).sum()])
    result = json.loads(text)["results"][str(model)]
    assert [result[f"HR@{k}"]["mean"] for k in (1, 2)] == [(ranks < k).mean() for k in (1, 2)]
    assert "1 + 2 to 3 candidates for each held-out item, given" in result["HR@1"]["protocol"]


def test_a_file_of_held_out_interactions(models, dataset, ratings, tmp_path, capsys):
    """Pairs that are not in the model are skipped; a user has several held-out items."""
    known = set(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))
    new = [(0, i) for i in range(len(dataset.item_ids)) if (0, i) not in known][:3]
    lines = [f"{dataset.user_ids[u]},{dataset.item_ids[i]}" for u, i in new] + ["nobody,i1", "u1,nothing"]
    (tmp_path / "test.csv").write_text("user,item\n" + "\n".join(lines) + "\n")
    code, text, err = run(capsys, "evaluate", models[0], ratings, "--held-out", tmp_path / "test.csv", "--json")
    facts = json.loads(text)
    assert (code, facts["users"], facts["held_out"]) == (0, 1, 3)
    assert "2 held-out pairs" in err


def test_compare(models, ratings, tmp_path, capsys):
    for model in models:
        assert main(["evaluate", str(model), str(ratings), "--per-user", str(tmp_path / f"{model.name}.npz")]) == 0
    capsys.readouterr()
    code, stored, _ = run(capsys, "compare", tmp_path / "a.npz", tmp_path / "b.npz", "--json")
    assert (code, stored) == run(capsys, "compare", *models, ratings, "--json")[:2]
    assert (code, stored) == run(capsys, "compare", models[0], tmp_path / "b.npz", ratings, "--json")[:2]
    a, b = (Evaluation.load(tmp_path / f"{name}.npz") for name in "ab")
    row = next(row for row in json.loads(stored)["metrics"] if row["metric"] == "NDCG@10")
    assert row["difference"]["mean"] == pytest.approx(a.means["NDCG@10"] - b.means["NDCG@10"])
    assert 0 < row["p"] <= 1
    code, text, _ = run(capsys, "compare", models[0], "ease", ratings)
    assert code == 0
    assert re.search(r"^NDCG@10 .* to .*whole catalogue", text, re.MULTILINE)


def test_wrong_input_is_rejected(models, ratings, dataset, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("".join(ratings.read_text().splitlines(keepends=True)[:-1]))
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("user,item\n1,2\n1,3\n")
    bare = save(tmp_path / "bare", 2, 3)
    ids = (dataset.user_ids, dataset.item_ids)
    unrecorded = save(tmp_path / "unrecorded", USERS, len(ids[1]), ids)
    config = {"training": {"seed": 3}, "data": {"fingerprint": dataset.fingerprint(), "split": "given"}}
    given = save(tmp_path / "given", USERS, len(ids[1]), ids, config)
    (tmp_path / "torn.npz").write_bytes(b"PK")
    for arguments, message in [
        (["evaluate", models[0], other], "other.csv: expected the interactions that"),
        (
            ["evaluate", unrecorded, ratings],
            "does not record the data it was trained on; pass the held-out file as --held-out",
        ),
        (["evaluate", given, ratings], "the model was trained with a held-out file; pass the same file as --held-out"),
        (["evaluate", models[0], tmp_path / "absent"], "absent.train.rating"),
        (["evaluate", bare, ratings, "--held-out", ratings], "not in the training set"),
        (["evaluate", models[0], numbers, "--held-out", other], "users"),
        (["compare", models[0], models[1]], "expected DATA to evaluate it on"),
        (["compare", "ease", "popularity", ratings], "ease: expected a model beside a baseline"),
        (["compare", tmp_path / "torn.npz", tmp_path / "torn.npz"], "torn.npz: expected"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert re.fullmatch(r"neuralcf: [^\n]+\n", err)
        assert message in err


def test_weights_grade_ndcg_where_asked(tmp_path, capsys):
    rng = np.random.default_rng(1)
    rows = [(u, i, int(rng.integers(1, 6))) for u in range(USERS) for i in rng.permutation(ITEMS)[:8].tolist()]
    file = tmp_path / "events.csv"
    file.write_text("user,item,stars\n" + "".join(f"{u},{i},{stars}\n" for u, i, stars in rows))
    dataset, _ = read_interactions(file, weight="stars")
    config = {"training": {"seed": 3}, "data": {"fingerprint": dataset.fingerprint(), "split": "share:0.4"}}
    model = save(tmp_path / "m", USERS, ITEMS, (dataset.user_ids, dataset.item_ids), config)
    weight = ("--weight", "stars")
    means = {}
    for relevance in ("binary", "weights"):
        code, out, _ = run(capsys, "evaluate", model, file, *weight, "--relevance", relevance, "--json")
        assert code == 0
        means[relevance] = json.loads(out)["results"][str(model)]
    assert means["weights"]["NDCG@10"]["mean"] != means["binary"]["NDCG@10"]["mean"]
    assert means["weights"]["Recall@10"]["mean"] == means["binary"]["Recall@10"]["mean"]
    assert means["weights"]["NDCG@10"]["protocol"].endswith("; NDCG graded by the weights of held-out items")
    for options, sentence in [
        (("--protocol", "1+99", *weight), "--relevance: expected binary with the protocol 1+99"),
        (("--held-out", file), "given: expected held-out pairs that are not in the training set"),
    ]:
        code, _, err = run(capsys, "evaluate", model, file, "--relevance", "weights", *options)
        assert (code, sentence in err) == (2, True), err
    file.write_text("user,item\n0,1\n1,2\n")
    (tmp_path / "test.csv").write_text("user,item\n0,2\n")
    code, _, err = run(capsys, "evaluate", model, file, "--held-out", tmp_path / "test.csv", "--relevance", "weights")
    assert (code, "got data without any; pass --weight-column or --event-weight" in err) == (2, True), err


def test_several_models_read_a_pipe_once(models, ratings, dataset, capsys):
    """Both models, a baseline and the held-out file; each pipe can be read once."""

    def piped(text):
        reader, writer = os.pipe()
        with os.fdopen(writer, "w") as file:
            file.write(text)
        return f"/dev/fd/{reader}"

    text = ratings.read_text()
    code, expected, _ = run(capsys, "compare", *models, ratings, "--json")
    assert code == 0
    code, out, err = run(capsys, "compare", *models, piped(text), "--json")
    assert (code, out) == (0, expected), err
    split = hold_out(dataset, 3)
    rows = [
        "user,item,timestamp\n" + "".join(f"{dataset.user_ids[u]},{dataset.item_ids[i]},1\n" for u, i in pairs)
        for pairs in (
            zip(split.train.users, split.train.items, strict=True),
            zip(split.users, split.items, strict=True),
        )
    ]
    code, out, err = run(capsys, "compare", *models, piped(rows[0]), "--held-out", piped(rows[1]), "--json")
    assert code == 0, err
    assert json.loads(out)["held_out"] == split.users.size


@pytest.mark.parametrize("stored", ["int64", "str"])
def test_types_of_ids_that_a_file_does_not_say_are_those_of_the_model(stored, tmp_path, capsys):
    """A file of text says `7`; whether that is a number is a guess, and the model knows."""
    train, test = [(u, i) for u in range(9) for i in range(u, u + 3)], [(u, (u + 4) % 9) for u in range(9)]
    users, items = list(range(9)), list(range(13))
    ids = (sorted(map(str, users)), sorted(map(str, items))) if stored == "str" else (sorted(users), items)
    config = {"training": {"seed": 3}, "data": {"fingerprint": "x", "split": "given"}}
    model = save(tmp_path / "m", 9, 13, ids, config)

    def write(name, pairs):
        (tmp_path / name).write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in pairs))
        return tmp_path / name

    def ndcg(*files):
        code, out, err = run(capsys, "evaluate", model, *files, "--json")
        assert code == 0, err
        return json.loads(out)["results"][str(model)]["NDCG@5"]["mean"], err

    numbers = write("train.csv", train), "--held-out", write("test.csv", test)
    value, err = ndcg(*numbers)
    assert err == ""
    strangers = [("x1", 3), (2, "soap"), ("07", 3)]
    mixed = write("train2.csv", [*train, *strangers]), "--held-out", write("test2.csv", [*test, ("x1", 5), ("07", 6)])
    again, err = ndcg(*mixed)
    assert (again, err) == (value, "neuralcf: skipped 2 held-out pairs whose user or item is not in the model\n")
    trained = read_interactions(numbers[0], text_ids=stored == "str")[0]
    config["data"] = {"fingerprint": trained.fingerprint(), "split": "random"}
    again = save(tmp_path / "again", 9, len(trained.item_ids), (trained.user_ids, trained.item_ids), config)
    code, _, err = run(capsys, "evaluate", again, numbers[0])  # the same interactions, without --text-ids
    assert (code, err) == (0, "")

    table = pa.table({"user": [str(u) if stored == "int64" else u for u, _ in train], "item": [i for _, i in train]})
    pa.parquet.write_table(table, tmp_path / "train.parquet")  # a table says its types
    code, _, err = run(capsys, "evaluate", model, tmp_path / "train.parquet", "--held-out", numbers[2])
    remedy = {"int64": "make them integers", "str": "pass --text-ids to read all ids as text"}[stored]
    assert (code, remedy in err) == (2, True), err
