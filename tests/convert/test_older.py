"""Surprise, LightFM and RecBole: train by the real library, convert, compare."""

import lightfm
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import surprise
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

import neuralcf
from neuralcf import convert


@pytest.mark.parametrize("name", ["SVD", "SVDpp", "NMF"])
def test_surprise(name, triples, tmp_path, compare):
    frame = pd.DataFrame(triples, columns=["user", "item", "rating"])
    reader = surprise.Reader(rating_scale=(1, 5))
    train_set = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()
    algorithm = getattr(surprise, name)(n_factors=6, n_epochs=8, random_state=3).fit(train_set)
    users, items = (
        [side(at) for at in range(count)]
        for side, count in ((train_set.to_raw_uid, train_set.n_users), (train_set.to_raw_iid, train_set.n_items))
    )
    scores = np.array([[algorithm.predict(user, item, clip=False).est for item in items] for user in users])
    surprise.dump.dump(str(tmp_path / "model.pkl"), algo=algorithm)
    with pytest.raises(neuralcf.ArgumentError, match="trust=True"):
        convert.from_surprise(tmp_path / "model.pkl")
    for source in (algorithm, tmp_path / "model.pkl"):
        converted = convert.from_surprise(source, trust=source is not algorithm)
        assert converted.ids == (users, items)
        compare("Surprise", name if source is algorithm else f"{name}, dump", converted, scores)


@pytest.mark.parametrize(
    ("user_ids", "kept"),
    [([1.0, 2.0, 3.0], [1, 2, 3]), ([1.5, 2.0, 3.0], None), ([1, "2", 3], None), ([True, False, 2], None)],
)
def test_ids_of_surprise_are_kept_or_refused(user_ids, kept):
    frame = pd.DataFrame(
        {"user": pd.Series(user_ids, dtype=object), "item": ["a", "b", "a"], "rating": [1.0, 2.0, 3.0]}
    )
    train_set = surprise.Dataset.load_from_df(frame, surprise.Reader()).build_full_trainset()
    algorithm = surprise.SVD(n_factors=2, n_epochs=1).fit(train_set)
    if kept is None:
        with pytest.raises(neuralcf.ArgumentError, match="source: raw user ids: expected all int or all str, got"):
            convert.from_surprise(algorithm)
    else:
        assert convert.from_surprise(algorithm).ids == (kept, ["a", "b"])


@pytest.mark.parametrize("features", [False, True])
def test_lightfm(features, user_items, tmp_path, compare):
    users, items = user_items.shape
    options = {}
    if features:
        for side, count in (("user", users), ("item", items)):
            more = scipy.sparse.random(count, 9, 0.3, format="csr", random_state=2, dtype=np.float32)
            options[f"{side}_features"] = scipy.sparse.hstack([scipy.sparse.identity(count), more]).astype("f4").tocsr()
    model = lightfm.LightFM(no_components=8, loss="warp", random_state=3)
    model.fit(user_items, epochs=10, num_threads=1, **options)
    pairs = np.repeat(np.arange(users), items), np.tile(np.arange(items), users)
    scores = model.predict(*pairs, num_threads=1, **options).reshape(users, items)
    arrays = ("user_embeddings", "user_biases", "item_embeddings", "item_biases")
    np.savez(tmp_path / "model.npz", **{name: getattr(model, name) for name in arrays})
    for source in (model, tmp_path / "model.npz"):
        name = ("features" if features else "WARP") + (", .npz" if source is not model else "")
        compare("LightFM", name, convert.from_lightfm(source, **options, seen=user_items), scores)


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "NeuMF"])
def test_recbole(name, triples, tmp_path, monkeypatch, compare):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    rows = [f"{user}\t{item}\t{rating}" for user, item, rating in triples]
    header = "user_id:token\titem_id:token\trating:float"
    (tmp_path / "small" / "small.inter").write_text("\n".join([header, *rows]))
    settings = {
        "data_path": str(tmp_path),
        "checkpoint_dir": str(tmp_path / "saved"),
        "epochs": 2,
        "embedding_size": 8,
        "mf_embedding_size": 8,
        "mlp_embedding_size": 8,
        "mlp_hidden_size": [16, 8],
        "n_layers": 2,
        "use_gpu": False,
        "show_progress": False,
        "seed": 3,
        "learning_rate": 0.01,
        "save_dataset": False,
        "state": "ERROR",
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    config = Config(model=name, dataset="small", config_dict=settings, config_file_list=[])
    init_seed(3, True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model = get_model(name)(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.fit(train, valid, saved=True, verbose=False, show_progress=False)
    checkpoint = torch.load(trainer.saved_model_file, weights_only=False)
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    model.eval()
    users, items = dataset.user_num, dataset.item_num
    with torch.no_grad():
        scores = [
            model.predict(Interaction({"user_id": torch.full((items,), user), "item_id": torch.arange(items)})).numpy()
            for user in range(1, users)
        ]
    tokens = [list(map(str, dataset.field2id_token[side][1:])) for side in ("user_id", "item_id")]
    converted = convert.from_recbole(trainer.saved_model_file, ids=tuple(tokens))
    compare("RecBole", name, converted, np.array(scores)[:, 1:], probabilities=name == "NeuMF")
    assert len(convert.from_recbole(trainer.saved_model_file).ids[1]) == items - 1
