"""Training that starts from a model: its ids stay, new ones are added, and its vectors teach."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, Scorer
from neuralcf.cli import main
from neuralcf.data import Dataset, Split, given, leave_last_out, planted_taste, renumbered
from neuralcf.evaluation import evaluate_full
from neuralcf.models import GMF, MLP, NeuMF
from neuralcf.training import DistillConfig, MatrixFactorizationConfig, NCFConfig, TrainConfig, train
from neuralcf.training.start import Start
from neuralcf.training.student import Student
from neuralcf.training.trainers import find_trainer

SMALL = {"factors": 12, "ials_factors": 12, "history_factors": 8, "history_epochs": 3, "validation_users": 20}


def gmf_of(users, items, user_ids, item_ids):
    """Start from vectors."""
    tensors = {
        "gmf.user_embedding.weight": users.astype(np.float32),
        "gmf.item_embedding.weight": items.astype(np.float32),
        "output.weight": np.ones((1, users.shape[1]), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    return Start("id", tensors, user_ids, item_ids)


def scorer_of(model):
    return Scorer.from_tensors({name: weight.detach().numpy() for name, weight in model.state_dict().items()})


@pytest.fixture(scope="module")
def dataset():
    return planted_taste(150, 60, seed=3).dataset


@pytest.fixture
def files(dataset, tmp_path):
    """The first interactions, of the first 140 users and the first 55 items, and all of them."""
    times = np.argsort(dataset.timestamps, kind="stable")
    early = times[: int(0.9 * len(dataset))]
    early = early[(dataset.users[early] >= 10) & (dataset.items[early] < 55)]
    for name, part in (("early.csv", dataset.take(early)), ("all.csv", dataset)):
        rows = zip(part.users, part.items, part.timestamps, strict=True)
        (tmp_path / name).write_text("user,item,timestamp\n" + "".join(f"{u},{i},{time}\n" for u, i, time in rows))
    return tmp_path


def test_a_start_has_the_vectors_of_a_gmf(tmp_path):
    model = GMF(5, 7, 3)
    model.state_dict()["output.bias"].fill_(-2)
    neuralcf.export(model, tmp_path / "model", ids=(np.arange(5), np.arange(7)))
    start = Start.load(tmp_path / "model")
    expected = scorer_of(model).score_batch(np.repeat(np.arange(5), 7), np.tile(np.arange(7), 5), logits=True)
    full = Dataset.from_ids(np.repeat(np.arange(5), 7), np.tile(np.arange(7), 5))
    taught = start.taught(full)
    assert taught.fold_in is None
    np.testing.assert_allclose(taught.scores(np.arange(5)) - 2, expected.reshape(5, 7), atol=1e-5)
    ones = gmf_of(np.ones((5, 2)), np.full((7, 2), 3.0), np.arange(5), np.arange(7))
    p, q = ones.for_ials(full, 3)
    np.testing.assert_allclose(p @ q.T, 0.7, rtol=1e-5)
    assert (p.shape, q.shape) == ((5, 3), (7, 3))
    assert start.model_id == json.loads((tmp_path / "model" / "config.json").read_text())["model_id"]


def test_a_model_that_cannot_be_started_from_is_rejected(tmp_path, dataset):
    neuralcf.export(MLP(5, 7, (4, 2)), tmp_path / "mlp", ids=(np.arange(5), np.arange(7)))
    five = Dataset.from_ids(np.repeat(np.arange(5), 7), np.tile(np.arange(7), 5))
    mlp = Start.load(tmp_path / "mlp")
    with pytest.raises(ArgumentError, match="expected a GMF, got a model of kind mlp"):
        mlp.taught(five)
    with pytest.raises(ArgumentError, match="expected a model of the kind to train, got one of kind mlp"):
        mlp.weights(five, GMF(5, 7, 3).state_dict())
    with pytest.raises(ArgumentError, match=r"mlp.user_embedding.weight \[5, 4\], got \[5, 2\]"):
        mlp.weights(five, MLP(5, 7, (8, 2)).state_dict())
    neuralcf.export(GMF(5, 7, 3), tmp_path / "bare")
    with pytest.raises(ArgumentError, match="expected a model with ids"):
        Start.load(tmp_path / "bare")
    neuralcf.export(GMF(5, 7, 3), tmp_path / "model", ids=(np.arange(5)[::-1], np.arange(7)))
    with pytest.raises(ArgumentError, match="user_ids: expected those of the model to start from"):
        Start.load(tmp_path / "model").taught(dataset)
    neuralcf.export(GMF(5, 7, 3), tmp_path / "plain", ids=(np.arange(5), np.arange(7)))
    with pytest.raises(ArgumentError, match="expected a GMF with item biases"):
        Start.load(tmp_path / "plain").factors(five)
    config = TrainConfig(DistillConfig(**SMALL, teachers="ials + start"))
    with pytest.raises(ArgumentError, match="expected a model to start from"):
        train(dataset, config, progress=False)


def test_known_ids_keep_their_numbers_and_new_ones_follow():
    train_set = Dataset.from_ids(["d", "a", "b", "a"], [4, 2, 9, 7], [1, 2, 3, 4], weights=[1, 2, 3, 4])
    held = Dataset.from_ids(["b", "a"], [4, 9])
    split = renumbered(
        given(train_set, held, (["a", "b"], np.array([9, 4]), np.array([4, 7]))), ["c", "b"], np.array([9, 1])
    )
    assert split.train.user_ids == ["c", "b", "a", "d"]
    assert split.train.item_ids.tolist() == [9, 1, 2, 4, 7]
    pairs = zip(split.train.users, split.train.items, strict=True)
    named = [(split.train.user_ids[u], split.train.item_ids[i]) for u, i in pairs]
    assert named == [("d", 4), ("a", 2), ("b", 9), ("a", 7)]
    assert split.train.weights.tolist() == [1, 2, 3, 4]
    assert [split.users.tolist(), split.items.tolist()] == [[1, 2], [3, 0]]  # b with 4, a with 9
    assert [part.tolist() for part in split.candidates] == [[0, 1, 2], [4, 3]]
    with pytest.raises(ArgumentError, match="users: expected integers as ids"):
        renumbered(Split(train_set, split.users, split.items, ""), np.arange(3), np.arange(3))


def test_the_command_trains_on_from_a_model(files, capsys):
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    old, new = str(files / "old"), str(files / "new")
    assert main(["train", str(files / "early.csv"), "--out", old, *settings]) == 0
    command = ["train", str(files / "all.csv"), "--out", new, "--init", old, "--run", str(files / "run")]
    assert main(command) == 0
    before, after = (neuralcf.Recommender.load(path) for path in (old, new))
    for name in ("user_ids", "item_ids"):
        ours, theirs = getattr(before, name), getattr(after, name)
        assert theirs.take(np.arange(len(ours))).tolist() == ours.take(np.arange(len(ours))).tolist()
        assert len(theirs) > len(ours)
    stored = json.loads(Path(new, "config.json").read_text())
    started = json.loads(Path(old, "config.json").read_text())
    assert stored["start"] == {"model_id": started["model_id"]}
    assert stored["training"]["teachers"] == "ease + start"
    assert (Path(new) / "history.safetensors").exists()
    assert stored["training"]["ials_l2"] == started["training"]["chosen"]["ials_l2"]
    assert json.loads((files / "run" / "config.json").read_text())["start"] == stored["start"]
    assert main(["evaluate", new, str(files / "all.csv")]) == 0
    assert main([*command, "--resume"]) == 0
    capsys.readouterr()
    assert main([*command[:-4], "--run", str(files / "run"), "--resume"]) == 2
    assert f"the run started from {started['model_id']}" in capsys.readouterr().err
    assert main(["train", str(files / "all.csv"), "--out", new, "--init", old, "--preset", "neumf"]) == 2


def test_what_was_learned_before_teaches(dataset):
    """A model of all interactions, as the only help of an iALS on a few of them, ranks better than that iALS."""
    split = leave_last_out(dataset)
    learned = train(split.train, TrainConfig(DistillConfig(**SMALL)), progress=False).model
    vectors = [learned.state_dict()[f"gmf.{side}_embedding.weight"].numpy() for side in ("user", "item")]
    start = gmf_of(*vectors, dataset.user_ids, dataset.item_ids)
    few = split.train.take(np.arange(0, len(split.train), 3))
    ndcg = []
    for teachers, given_start in (("ials", None), ("ials + start", start)):
        config = TrainConfig(DistillConfig(**SMALL, teachers=teachers, search=False, large_teachers="ials"))
        model = train(few, config, progress=False, start=given_start).model
        ndcg.append(evaluate_full(scorer_of(model), split, 10).means["NDCG@10"])
    assert ndcg[1] > 1.1 * ndcg[0]


def test_a_model_with_a_fold_in_teaches_what_it_makes_of_the_whole_history(dataset):
    """For known users as for new ones, and the new model can tell how."""
    half = dataset.take(np.arange(0, len(dataset), 2))
    learned = train(half, TrainConfig(DistillConfig(**SMALL)), progress=False)
    tensors = {name: weight.numpy() for name, weight in learned.model.state_dict().items()}
    more = replace(dataset, item_ids=np.arange(dataset.num_items + 2))
    more = replace(more, users=[*dataset.users, 0], items=[*dataset.items, dataset.num_items], timestamps=None)
    taught = Start("id", tensors, dataset.user_ids, dataset.item_ids, learned.fold_in).taught(more)
    histories = dataset.user_items()
    scorer = Scorer.from_tensors(tensors, history=learned.fold_in)
    np.testing.assert_array_equal(taught.user_vectors, scorer.fold_in(histories).gmf)
    assert not np.allclose(taught.user_vectors, tensors["gmf.user_embedding.weight"], atol=0.01)
    assert not taught.item_vectors[-2:].any()
    history = Student(taught).history_tensors()
    ours = Scorer.from_tensors(
        {name: w.numpy() for name, w in taught.to_gmf().state_dict().items()}, history=history
    ).fold_in(more.user_items())
    # User 0 has an item that the model does not know, and which counts in the length of the history.
    np.testing.assert_allclose(ours.gmf[1:, :-1], taught.user_vectors[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (NCFConfig(model="gmf", epochs=1, factors=4, batch_size=256), "gmf"),
        (NCFConfig(model="mlp", epochs=1, layers=(8, 4), batch_size=256), "mlp"),
        (NCFConfig(model="neumf", epochs=1, factors=4, layers=(8, 4), batch_size=256), "neumf"),
        (MatrixFactorizationConfig(factors=4, epochs=1), "gmf"),
        (MatrixFactorizationConfig(factors=4, epochs=1, loss="bce"), "gmf"),
    ],
    ids=["gmf", "mlp", "neumf", "mf", "mf-bce"],
)
def test_gradient_descent_goes_on_from_the_weights(dataset, tmp_path, config, model):
    """A step of nearly no length leaves the old scores; new users and items join."""
    known = dataset.take(dataset.users < dataset.num_users - 3)
    known = Dataset.from_ids(known.users, known.items)  # the ids begin with those of the rest
    old = train(known, TrainConfig(config), progress=False).model
    assert old.kind == model
    neuralcf.export(old, tmp_path / "old", ids=(known.user_ids, known.item_ids))
    start = Start.load(tmp_path / "old")
    still = replace(config, learning_rate=1e-9)
    if isinstance(config, MatrixFactorizationConfig):
        still = replace(still, user_learning_rate=1e-9)
    new = train(dataset, TrainConfig(still, validation=False), progress=False, start=start).model
    users, items = (
        np.repeat(np.arange(known.num_users), known.num_items),
        np.tile(np.arange(known.num_items), known.num_users),
    )
    before, after = (scorer_of(each).score_batch(users, items, logits=True) for each in (old, new))
    if model == "gmf" and isinstance(config, MatrixFactorizationConfig) and config.loss == "softmax":
        after = np.polyval(np.polyfit(after, before, 1), after)  # calibrated anew
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert (scorer_of(new).num_users, scorer_of(new).num_items) == (dataset.num_users, dataset.num_items)


def test_a_trainer_goes_on_with_a_fifth_of_the_epochs(dataset, tmp_path):
    for trainer, settings, expected in (
        ("ncf", {"epochs": 10, "pretrain": True}, {"epochs": 2, "pretrain": False}),
        ("mf", {}, {"epochs": 10}),
    ):
        assert find_trainer(trainer).continued(settings, {}) == expected
    ids = (dataset.user_ids, dataset.item_ids)
    neuralcf.export(NeuMF(dataset.num_users, dataset.num_items, 8, (64, 32, 16, 8)), tmp_path / "old", ids=ids)
    config = TrainConfig(NCFConfig(pretrain=True))
    with pytest.raises(ArgumentError, match="pretrain: expected False"):
        train(dataset, config, progress=False, start=Start.load(tmp_path / "old"))
    config = TrainConfig(MatrixFactorizationConfig(factors=5))
    start = gmf_of(np.ones((dataset.num_users, 4)), np.ones((dataset.num_items, 4)), *ids)
    with pytest.raises(ArgumentError, match="factors: expected 3, those of the model to start from, got 5"):
        train(dataset, config, progress=False, start=start)


def test_integers_of_a_text_file_join_a_model_of_text_ids():
    """Where types of ids were guessed from text, they are those of the model; never in tables."""
    split = leave_last_out(Dataset.from_ids([7, 7, 10], [1, 3, 3], [1, 2, 3]))
    joined = renumbered(split, ["7", "x"], ["3", "soap"], guessed=True)
    assert joined.train.user_ids == ["7", "x", "10"]
    assert joined.train.item_ids == ["3", "soap", "1"]
    assert (joined.train.users.tolist(), joined.train.items.tolist()) == ([0, 2], [2, 0])
    assert (joined.users.tolist(), joined.items.tolist()) == ([0], [0])
    with pytest.raises(
        ArgumentError, match="expected strings as ids, as in the model to start from, such as 7, got int"
    ):
        renumbered(split, ["7", "x"], ["3", "soap"])
    text = leave_last_out(Dataset.from_ids(["7", "7", "ann"], [1, 3, 3], [1, 2, 3]))
    with pytest.raises(
        ArgumentError, match=r"expected integers as ids.*such as ann; a model for both is trained with text"
    ):
        renumbered(text, np.array([7]), np.array([3]), guessed=True)
