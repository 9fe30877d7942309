"""The report: each section's numbers computed independently, and a self-contained page."""

import re
from html import unescape
from itertools import product

import numpy as np
import pytest

import neuralcf
from conftest import files_of_at_most
from neuralcf.baselines import ItemKNN
from neuralcf.cli import main
from neuralcf.data import hold_out, read_interactions
from neuralcf.evaluation.held_out import EvaluationSetup
from neuralcf.evaluation.protocols import candidates_for, evaluate_candidates, evaluate_full
from neuralcf.evaluation.significance import interval
from neuralcf.report.build import report
from neuralcf.report.calibration import area_under_curve, calibrate
from neuralcf.report.stages import Stages
from neuralcf.report.training import History
from pages import check_self_contained

USERS, ITEMS, SEED = 30, 40, 3
HOSTILE = '</td><script>alert("$x$")</script> & <b>'


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """Interactions with string ids; popular items have low numbers."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, ITEMS + 1)
    lines = ["user,item,timestamp"]
    for user in range(USERS):
        items = rng.choice(ITEMS, 8, replace=False, p=weights / weights.sum())
        lines += [f"u{user},i{item},{at}" for at, item in enumerate(items)]
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def dataset(ratings):
    return read_interactions(ratings)[0]


def epochs(stage, count):
    return [
        {"stage": stage, "epoch": n + 1, "loss": 1 / (n + 1), "validation_hr": 0.5, "validation_ndcg": 0.25}
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def tensors(dataset):
    rng = np.random.default_rng(1)
    made = {
        "gmf.user_embedding.weight": rng.standard_normal((USERS, 4)),
        "gmf.item_embedding.weight": rng.standard_normal((dataset.num_items, 4)),
        "output.weight": np.ones((1, 4)),
        "output.bias": np.zeros(1),
    }
    return {name: tensor.astype(np.float32) for name, tensor in made.items()}


@pytest.fixture(scope="module")
def model(dataset, tensors, tmp_path_factory):
    config = {
        "training": {"trainer": "ncf", "seed": SEED, "negatives": 2, "best_epoch": 2},
        "history": epochs("gmf", 2) + epochs("mlp", 3) + epochs(HOSTILE, 4),
        "data": {"fingerprint": dataset.fingerprint()},
    }
    path = tmp_path_factory.mktemp("models") / "model"
    neuralcf.save(tensors, path, kind="gmf", ids=(dataset.user_ids, dataset.item_ids), config=config)
    return path


@pytest.fixture(scope="module")
def made(model, ratings):
    setup = EvaluationSetup(data=str(ratings), reading={}, cutoffs=(3, 10), seed=5)
    return report(str(model), setup, baselines=("popularity", "itemknn"), users=4)


@pytest.fixture(scope="module")
def html(made):
    return made.html()


@pytest.fixture(scope="module")
def split(dataset):
    return hold_out(dataset, SEED)


def negatives(split, user):
    """Return the items that are not in the user's training set, ascending."""
    known = split.train.items[split.train.users == user]
    return np.array([item for item in range(split.train.num_items) if item not in known])


def probabilities(tensors, user):
    users, items = tensors["gmf.user_embedding.weight"], tensors["gmf.item_embedding.weight"]
    return 1 / (1 + np.exp(-(items.astype(np.float64) @ users[user])))


def test_metrics_beside_baselines(made, html, model, split):
    rankers = {"GMF": neuralcf.Scorer.load(model), "itemknn": ItemKNN(split.train)}
    rows = candidates_for(split, seed=5)
    everything, drawn = made.comparison.evaluations.values()
    assert list(everything) == list(drawn) == ["GMF", "popularity", "itemknn"]
    for name, ranker in rankers.items():
        full = evaluate_full(ranker, split, (3, 10), lists=True)
        sampled = evaluate_candidates(ranker, split.users, split.items, *rows, (3, 10), origin="drawn with seed 5")
        for found, expected in ((everything[name], full), (drawn[name], sampled)):
            assert (found.means, found.protocol) == (expected.means, expected.protocol)
            bounds = interval(expected.per_user["NDCG@10"])
            assert f"<td>{bounds.mean:.4f}\u00a0±{bounds.high - bounds.mean:.4f}</td>" in html
            assert f"Among {expected.protocol}." in unescape(html)
        assert f"<td>{full.overall['Coverage@10']:.1%}</td>" in html
    difference = everything["GMF"].per_user["NDCG@10"] - everything["itemknn"].per_user["NDCG@10"]
    assert f"<td>itemknn</td><td>all\u00a0items</td><td>{difference.mean():+.4f} (" in html


def test_popularity(made, html, split, tensors):
    """Assign items to groups of three or four in the order of their training interactions."""
    train = split.train
    count = [int((train.items == item).sum()) for item in range(train.num_items)]
    order = sorted(range(train.num_items), key=lambda item: (-count[item], item))
    lists = []
    for user in split.users:
        others = negatives(split, user)
        lists.extend(others[np.argsort(-probabilities(tensors, user)[others])][:10])
    for found, items in (
        (made.popularity.recommended, lists),
        (made.popularity.known, train.items),
        (made.popularity.held_out, split.items),
    ):
        expected = np.zeros(10)
        for item in items:
            expected[10 * order.index(item) // train.num_items] += 1 / len(items)
        assert found == pytest.approx(expected)
    assert f"{made.popularity.recommended[0]:.1%} of the users' top 10" in unescape(html)


def test_calibration(made, html, split, tensors):
    """Two sampled items for each held-out item, the number of negatives in training."""
    indptr, sampled = candidates_for(split, count=2, seed=5)
    pairs = [(probabilities(tensors, u)[i], 1) for u, i in zip(split.users, split.items, strict=True)]
    for row, user in enumerate(split.users):
        pairs += [(probabilities(tensors, user)[item], 0) for item in sampled[indptr[row] : indptr[row + 1]]]
    assert len(pairs) == 3 * split.users.size
    error = 0.0
    for low in range(10):
        inside = [(p, label) for p, label in pairs if low <= 10 * p < low + 1]
        if inside:
            predicted, observed = (sum(column) / len(inside) for column in zip(*inside, strict=True))
            error += len(inside) / len(pairs) * abs(predicted - observed)
    assert made.scores.calibration.error == pytest.approx(error, abs=1e-6)
    assert made.scores.calibration.share == pytest.approx(1 / 3)
    assert f"expected calibration error is {error:.3f}" in html
    assert "with 2 sampled negatives for each interaction: 1 in 3 of such pairs is an interaction, 33%" in html


def test_calibration_and_auc_by_hand():
    positives, negatives = np.array([0.95] * 8 + [1.0], np.float32), np.array([0.95, 0.95, 0.0], np.float32)
    found = calibrate(positives[:8], negatives)
    assert found.pairs.tolist() == [1, 10]
    assert found.bounds.tolist() == [[0, 0.1], [0.9, 1]]
    assert found.observed.tolist() == [0, 0.8]
    assert found.intervals[1] == pytest.approx([0.4902, 0.9433], abs=1e-4)  # the Wilson interval of 8 of 10
    assert found.error == pytest.approx(10 / 11 * 0.15)
    assert calibrate(positives, negatives).pairs.sum() == 12  # a probability of 1 falls into the last bin
    better = [(p > n) + (p == n) / 2 for p, n in product(positives, negatives)]
    assert area_under_curve(positives, negatives) == pytest.approx(np.mean(better))


def test_lists(made, split, dataset, tensors):
    train, ids = split.train, dataset.item_ids
    assert len(made.lists.users) == 4
    assert any(marked for user in made.lists.users for _, _, marked in user.recommended), "no held-out item is marked"
    for shown in made.lists.users:
        user = dataset.user_ids.index(shown.user)
        mine = np.flatnonzero(train.users == user)
        assert list(shown.history) == [ids[i] for i in train.items[mine[np.argsort(-train.timestamps[mine])]]]
        others, probability = negatives(split, user), probabilities(tensors, user)
        ranked = others[np.argsort(-probability[others])]
        held = split.items[split.users == user].item()
        assert [(title, marked) for title, _, marked in shown.recommended] == [(ids[i], i == held) for i in ranked[:10]]
        assert [score for _, score, _ in shown.recommended] == pytest.approx(probability[ranked[:10]], abs=1e-5)
        assert list(shown.held_out) == [(ids[held], ranked.tolist().index(held) + 1)]


def test_history(made, html):
    assert [len(stage) for stage in made.history.stages] == [2, 3, 4]
    assert made.history.kept_at == 2 + 3 + 2
    assert "weights of epoch 2 of &lt;/td&gt;&lt;script&gt;" in html
    joined = History.of({"history": epochs("gmf", 1) + epochs("neumf", 2), "training": {"best_epoch": 0}})
    assert joined.kept_at == 1.5
    assert "No epoch of neumf ranked better" in joined.caption()
    unvalidated = History.of({"history": [{"stage": "gmf", "loss": 1, "validation_hr": None}]})
    assert (unvalidated.validated, unvalidated.kept_at) == (False, None)
    records = [
        {"stage": "gmf", "loss": 1, "validation_hr": 0.5, "validation_ndcg": 0.2},
        {"stage": "gmf refit", "loss": 1},
    ]
    refitted = History.of({"history": records, "training": {"best_epoch": 1}})
    assert (refitted.validated, refitted.kept_at) == (True, 2)
    assert "retrained for the best number of epochs" in refitted.caption()
    assert History.of({}) is None
    for foreign in ([], [3], [{"stage": "gmf"}], [{"stage": 1, "loss": 1}], [{"stage": "", "loss": "nan"}]):
        assert History.of({"history": foreign}) is None


def test_the_page(model, ratings, dataset, tmp_path, capsys):
    """Titles that look like HTML are shown as text, and an item without a title by its id."""
    items = tmp_path / "items.csv"
    items.write_text(
        "item,title\n" + "".join(f"{item},{HOSTILE} {item}\n" for item in dataset.item_ids if item != "i0")
    )
    out = tmp_path / "report.html"
    arguments = ["report", model, ratings, "--items", items, "--user", "u3", "u29", "--out", out]
    assert main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr()
    assert (printed.err, f"report written to {out}" in printed.out) == ("", True)
    html = out.read_text(encoding="utf-8")
    page = check_self_contained(html)
    assert page.tags.count("svg") == 2 * 5  # each chart for wide and for narrow screens
    assert page.tags.count("article") == 2
    assert html.count("</article>") == 2
    assert any(text.startswith(HOSTILE) for text in page.texts)
    assert "Items without a title (1 in all) are shown by id" in html


def test_a_report_that_cannot_be_written_leaves_the_old_one(model, ratings, tmp_path, capsys):
    out = tmp_path / "report.html"
    out.write_text("old")
    with files_of_at_most(10_000):
        assert main(["report", str(model), str(ratings), "--out", str(out)]) == 1
    assert capsys.readouterr().err == f"neuralcf: {out}: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "old"


def test_a_model_without_any_metadata(tmp_path, tensors, capsys):
    """The paper's files without timestamps, and a single .safetensors file: no ids, no history, no config."""
    neuralcf.save(tensors, tmp_path / "model", kind="gmf")
    (tmp_path / "x.train.rating").write_text("0\t0\t1\n0\t1\t1\n1\t2\t1\n1\t3\t1\n")
    (tmp_path / "x.test.rating").write_text("0\t4\t1\n1\t6\t1\n")
    (tmp_path / "x.test.negative").write_text("(0,4)\t5\t6\n(1,6)\t4\t5\n")
    out = tmp_path / "report.html"
    bare, data = str(tmp_path / "model" / "model.safetensors"), str(tmp_path / "x")
    assert main(["report", bare, data, "--out", str(out), "-k", "2", "--users", "9"]) == 0
    assert capsys.readouterr().err == ""
    html = out.read_text(encoding="utf-8")
    assert check_self_contained(html).tags.count("article") == 2
    for text in (
        "does not record how it was trained",
        "does not record how many negatives were sampled for each interaction in training; assuming 4: 1 in 5",
        "in the order of the data, which has no timestamps",
        "shown by id, because no file of titles was given",
        "The model has no config.json",
        "1 + 2 candidates for each held-out item, given",
    ):
        assert text in html
    assert re.search(r"<b>History \(2\):</b> 0; 1</p>", html)


def test_wrong_arguments_are_rejected(model, ratings, tmp_path, capsys):
    (tmp_path / "movies.csv").write_text("movieId,title\n1,Toy Story\n")
    for arguments, message in [
        (["--out", tmp_path], "--out: expected a file to write, got the directory"),
        (["--out", tmp_path / "absent" / "r.html"], "expected a file in an existing directory"),
        (["--user", "u3", "nobody"], "--user: not in the model: 'nobody'"),
        (["--users", "-1"], "--users: expected an integer of at least 0, got -1"),
        (["--items", tmp_path / "movies.csv"], "movies.csv: expected ids of the model's items, such as 'i"),
        (["--items-id-column", "1"], "expected --items with them"),
    ]:
        out = ["--out", tmp_path / "r.html"] if "--out" not in arguments else []
        code = main([str(argument) for argument in ["report", model, ratings, *out, *arguments]])
        err = capsys.readouterr().err
        assert (code, re.fullmatch(r"neuralcf: [^\n]+\n", err) is not None) == (2, True), err
        assert message in err
    assert not (tmp_path / "r.html").exists()


def test_stages_of_a_distilled_model():
    """Seconds add up over a stage's epochs, its last epoch was measured; foreign records are no stages."""
    figures = {"ials": 0.5, "history": 0.4, "sum": 0.6, "gmf": 0.59}
    records = [{"stage": "history", "seconds": 2, "validation_hr": None, "validation_ndcg": None}]
    records += [
        {"stage": name, "seconds": 1, "validation_hr": 0.75, "validation_ndcg": value}
        for name, value in figures.items()
    ]
    html = Stages.of({"training": {"trainer": "distill"}, "history": records}).html()
    assert "<td>history</td><td>3.0</td><td>0.7500</td><td>0.4000</td>" in html
    assert "the sum +0.1000 against ials, the best teacher; the GMF -0.0100 against the sum." in html
    assert Stages.of({"training": {"trainer": "ncf"}, "history": records}) is None
    for foreign in ({}, {"training": 3}, {"training": {"trainer": "distill"}, "history": [3]}):
        assert Stages.of(foreign) is None
