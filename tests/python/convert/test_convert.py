"""Conversion of files in other libraries' formats: scores, ids and interactions are theirs; bad files are refused."""

import io
import json
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.numpy import save_file

import neuralcf
from neuralcf import convert
from neuralcf.cli import main
from neuralcf.convert import LIBRARIES
from neuralcf.convert.state_dict import LAYOUTS
from neuralcf.convert.tf_checkpoint import read_variables
from neuralcf.errors import ArgumentError, ModelFormatError

USERS, ITEMS, WIDTH = 7, 11, 4
rng = np.random.default_rng(3)
P, Q = rng.standard_normal((USERS, WIDTH)).astype(np.float32), rng.standard_normal((ITEMS, WIDTH)).astype(np.float32)
BU, BI = rng.standard_normal(USERS).astype(np.float32), rng.standard_normal(ITEMS).astype(np.float32)
SEEN = scipy.sparse.random(USERS, ITEMS, 0.3, format="csr", random_state=0)


def logits(converted, tmp_path):
    """Save a conversion, load it in Rust, and score all pairs: float32 [USERS, ITEMS]."""
    converted.save(tmp_path / "model")
    scorer = neuralcf.Scorer.load(tmp_path / "model")
    users, items = np.indices((scorer.num_users, scorer.num_items))
    return scorer.score_batch(users.ravel(), items.ravel(), logits=True).reshape(users.shape)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.maximum(1, np.abs(expected)).max())


# ------------------------------------------------------------------------------------------------------- dot products


def test_implicit_file_on_the_command_line(tmp_path, capsys):
    np.savez(
        tmp_path / "als.npz", user_factors=P, item_factors=Q, factors=WIDTH, use_cg=True, alpha=1.0, dtype="float32"
    )
    scipy.sparse.save_npz(tmp_path / "seen.npz", SEEN)
    (tmp_path / "users.txt").write_text("".join(f"u{at}\n" for at in range(USERS)))
    (tmp_path / "items.txt").write_text("".join(f"{at + 100}\n" for at in range(ITEMS)))
    ids = ["--user-ids", str(tmp_path / "users.txt"), "--item-ids", str(tmp_path / "items.txt")]
    arguments = ["convert", str(tmp_path / "als.npz"), "--from", "implicit", "--out", str(tmp_path / "model"), *ids]
    assert main([*arguments, "--seen", str(tmp_path / "seen.npz")]) == 0
    assert "AlternatingLeastSquares of implicit" in capsys.readouterr().out
    recommender = neuralcf.Recommender.load(tmp_path / "model")
    top = recommender.recommend([f"u{at}" for at in range(USERS)], ITEMS, logits=True)
    scores = np.where(SEEN.toarray() != 0, -np.inf, P @ Q.T)
    order = np.argsort(-scores, axis=1, kind="stable")
    for row, count in enumerate(top.counts):
        assert count == ITEMS - SEEN[row].nnz
        assert top.ids[row, :count].tolist() == (order[row, :count] + 100).tolist()
        close(top.scores[row, :count], scores[row, order[row, :count]])
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["converted_from"] == {"library": "implicit", "model": "AlternatingLeastSquares"}
    assert main(["inspect", str(tmp_path / "model")]) == 0


def test_spark_als_directory(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    saved = tmp_path / "pipeline" / "stages" / "0_ALS_1"
    (saved / "metadata").mkdir(parents=True)
    described = {"class": "org.apache.spark.ml.recommendation.ALSModel", "paramMap": {}}
    (saved / "metadata" / "part-00000").write_text(json.dumps(described) + "\n")
    user_ids, item_ids = rng.permutation(USERS) * 3, rng.permutation(ITEMS) - 5
    for name, ids, factors in (("userFactors", user_ids, P), ("itemFactors", item_ids, Q)):
        (saved / name).mkdir()
        for part in range(3):  # the last part holds no rows
            rows = slice(part * 4, (part + 1) * 4 if part < 2 else None)
            taken = (ids[rows], factors[rows]) if part < 2 or name == "itemFactors" else (ids[:0], factors[:0])
            features = pa.array(list(taken[1]), pa.list_(pa.float32()))
            table = pa.table({"id": pa.array(taken[0], pa.int32()), "features": features})
            parquet.write_table(table, saved / name / f"part-{part:05}.snappy.parquet", compression="snappy")
        (saved / name / "_SUCCESS").touch()
    converted = convert.from_spark_als(tmp_path / "pipeline")
    assert [list(ids) for ids in converted.ids] == [sorted(user_ids), sorted(item_ids)]
    close(logits(converted, tmp_path), (P @ Q.T)[np.argsort(user_ids)][:, np.argsort(item_ids)])
    (saved / "metadata" / "part-00000").write_text('{"class": "org.apache.spark.ml.feature.PCAModel"}')
    with pytest.raises(ArgumentError, match="expected an ALSModel, got org"):
        convert.from_spark_als(saved)
    with pytest.raises(ArgumentError, match="expected the directory of one saved ALSModel"):
        convert.from_spark_als(tmp_path)


def test_lightfm_arrays_fold_features(tmp_path):
    users = scipy.sparse.random(5, USERS, 0.5, format="csr", random_state=1, dtype=np.float32)
    arrays = {"user_embeddings": P, "user_biases": BU, "item_embeddings": Q, "item_biases": BI}
    np.savez(tmp_path / "fm.npz", **arrays)
    scipy.sparse.save_npz(tmp_path / "users.npz", users)
    expected = (users @ P) @ Q.T + (users @ BU)[:, None] + BI
    close(logits(convert.from_lightfm(SimpleNamespace(**arrays), user_features=users), tmp_path), expected)
    converted = convert.from_lightfm(tmp_path / "fm.npz", user_features=tmp_path / "users.npz")
    close(logits(converted, tmp_path), expected)
    with pytest.raises(TypeError, match=r"^user_features: expected scipy CSR, got coo"):
        convert.from_lightfm(tmp_path / "fm.npz", user_features=users.tocoo())
    with pytest.raises(ArgumentError, match="user_features: expected 7 columns, one for each feature, got 11"):
        convert.from_lightfm(tmp_path / "fm.npz", user_features=SEEN)


def fitted_svd(user_ids=tuple(f"u{at}" for at in range(USERS))):
    """An object as Surprise's SVD is, whose class has its name."""
    rated = {user: [(item, 4.0) for item in SEEN[user].indices] for user in range(USERS)}
    trainset = SimpleNamespace(n_users=USERS, n_items=ITEMS, ur=rated, global_mean=3.5)
    trainset.to_raw_uid, trainset.to_raw_iid = user_ids.__getitem__, "i{}".format
    svd = type("SVD", (SimpleNamespace,), {})
    return svd(pu=P.astype(float), qi=Q.astype(float), bu=BU, bi=BI, biased=True, trainset=trainset)


def test_surprise_cornac_and_librecommender_objects(tmp_path):
    converted = convert.from_surprise(fitted_svd())
    assert converted.ids[0][:2] == ["u0", "u1"]
    close(logits(converted, tmp_path), 3.5 + BU[:, None] + BI + P @ Q.T)
    recommender = neuralcf.Recommender.load(tmp_path / "model")
    assert recommender.recommend("u3", ITEMS).counts == ITEMS - SEEN[3].nnz

    bpr = type("BPR", (SimpleNamespace,), {})
    maps = {"uid_map": {f"u{at}": at for at in range(USERS)}, "iid_map": {at + 50: at for at in range(ITEMS)}}
    model = bpr(u_factors=P, i_factors=Q, i_biases=BI, train_set=None, **maps)
    converted = convert.from_cornac(model)
    assert converted.ids == (list(maps["uid_map"]), list(maps["iid_map"]))
    close(logits(converted, tmp_path), BI + P @ Q.T)

    embeddings = {"user_embed": np.vstack([P, P.mean(0)]), "item_embed": np.vstack([Q, Q.mean(0)])}
    np.savez_compressed(tmp_path / "bpr.npz", **embeddings)
    close(logits(convert.from_librecommender(tmp_path / "bpr.npz"), tmp_path), P @ Q.T)


def models_with(user_ids, folder):
    """Yield conversions of models whose libraries hold user ids of any type."""
    yield lambda: convert.from_surprise(fitted_svd(user_ids))
    maps = {"uid_map": {id_: at for at, id_ in enumerate(user_ids)}, "iid_map": {at: at for at in range(ITEMS)}}
    wmf = type("WMF", (SimpleNamespace,), {})
    yield lambda: convert.from_cornac(wmf(U=P, V=Q, train_set=None, **maps))
    padded = {"user_embeds_np": np.vstack([P, P[:1]]), "item_embeds_np": np.vstack([Q, Q[:1]])}
    info = SimpleNamespace(id2user=dict(enumerate(user_ids)), id2item=dict(enumerate(range(ITEMS))), user_consumed={})
    yield lambda: convert.from_librecommender(SimpleNamespace(**padded, data_info=info))
    if len({type(id_) for id_ in user_ids}) == 1:  # as all arrays have
        np.savez(folder / "users.npz", vectors=P, ids=np.array(user_ids))
        yield lambda: convert.from_vectors(Q, folder / "users.npz")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([np.int64(at + 2**60) for at in range(USERS)], [at + 2**60 for at in range(USERS)]),
        ([float(at) for at in range(USERS)], list(range(USERS))),
        ([np.str_(f"u{at}") for at in range(USERS)], [f"u{at}" for at in range(USERS)]),
        ([0.5, *range(1, USERS)], "expected all int or all str, got float"),
        ([float("nan"), *range(1, USERS)], "expected all int or all str, got float"),
        (["0", *range(1, USERS)], "expected all int or all str, got int, str"),
        ([None, *range(1, USERS)], "expected all int or all str, got NoneType"),
        ([True, *range(2, USERS + 1)], "expected all int or all str, got bool"),
        ([b"0", *map(str, range(1, USERS))], "expected all int or all str, got bytes"),
        ([2**63, *range(1, USERS)], "expected integers that fit int64"),
        (["\ud800", *map(str, range(1, USERS))], "expected valid Unicode"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[0]),
)
def test_ids_of_libraries_are_kept_or_refused(ids, expected, tmp_path):
    for convert_model in models_with(ids, tmp_path):
        if isinstance(expected, list):
            converted = convert_model()
            assert list(converted.ids[0]) == expected
            converted.save(tmp_path / "model")
            found = neuralcf.Recommender.load(tmp_path / "model").user_ids.take(np.arange(USERS))
            assert list(found) == expected
        else:
            with pytest.raises(
                ArgumentError, match=rf"(ids|map|id2user): {expected}.*; others can be given by user_ids"
            ):
                convert_model()


def test_given_ids_are_checked_before_anything_is_saved():
    for ids, kind, message in [
        ([*range(USERS - 1), 0.5], TypeError, "^user_ids: expected all int or all str, got float, int"),
        ([0] * USERS, ArgumentError, "user_ids: expected unique ids, got 0 more than once"),
    ]:
        for seen in (None, SEEN):
            with pytest.raises(kind, match=message):
                convert.from_vectors(Q, P, ids=(ids, range(ITEMS)), seen=seen)


def test_the_biases_of_no_side_cost_a_factor(tmp_path):
    arrays = {"users": P, "items": Q, "bu": BU, "zero": np.zeros(ITEMS)}
    names = {"users": "users", "items": "items", "item_biases": "zero"}
    assert convert.from_state_dict(arrays, names=names).tensors["output.weight"].shape == (1, WIDTH)
    converted = convert.from_state_dict(arrays, names={**names, "user_biases": "bu"})
    assert converted.tensors["output.weight"].shape == (1, WIDTH + 1)
    close(logits(converted, tmp_path), P @ Q.T + BU[:, None])


# ----------------------------------------------------------------------------------------------------------- networks


class Net(torch.nn.Module):
    """An NCF model whose parts have the names of a layout."""

    def __init__(self, layout):
        super().__init__()
        self.layout, self.weights = layout, {}
        for pair, width in ((layout.gmf, WIDTH), (layout.mlp, 3)):
            for name, rows in zip(pair or (), (USERS, ITEMS), strict=False):
                self.weights[name] = torch.randn(rows, width)
        inputs = 6
        self.numbers = (1, 4) if layout.layers else ()
        for number, width in zip(self.numbers, (5, 4), strict=False):
            self.weights[f"{layout.layers}.{number}.weight"] = torch.randn(width, inputs)
            self.weights[f"{layout.layers}.{number}.bias"] = torch.randn(width)
            inputs = width
        self.weights[f"{layout.output}.weight"] = torch.randn(
            1, WIDTH * (layout.gmf is not None) + 4 * bool(layout.mlp)
        )
        self.weights[f"{layout.output}.bias"] = torch.randn(1)

    def forward(self, users, items):
        blocks = []
        if self.layout.gmf:
            blocks.append(self.weights[self.layout.gmf[0]][users] * self.weights[self.layout.gmf[1]][items])
        if self.layout.mlp:
            x = torch.cat([self.weights[self.layout.mlp[0]][users], self.weights[self.layout.mlp[1]][items]], -1)
            for number in self.numbers:
                layer = [self.weights[f"{self.layout.layers}.{number}.{part}"] for part in ("weight", "bias")]
                x = torch.relu(torch.nn.functional.linear(x, *layer))
            blocks.append(x)
        x = torch.cat(blocks[::-1] if self.layout.mlp_first else blocks, -1)
        output = (self.weights[f"{self.layout.output}.{part}"] for part in ("weight", "bias"))
        return torch.nn.functional.linear(x, *output)[:, 0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.program}-{layout.model}")
def test_layouts_are_recognised(layout, tmp_path):
    torch.manual_seed(1)
    net = Net(layout)
    users, items = (torch.as_tensor(side.ravel()) for side in np.indices((USERS, ITEMS)))
    expected = net(users, items).numpy().reshape(USERS, ITEMS)
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": w for name, w in net.weights.items()}}, tmp_path / "n.pth")
    converted = convert.from_state_dict(tmp_path / "n.pth")
    assert converted.config["converted_from"] == {"library": layout.program, "model": layout.model}
    close(logits(converted, tmp_path), expected)
    save_file({name: weight.numpy() for name, weight in net.weights.items()}, tmp_path / "n.safetensors")
    assert converted.kind == convert.from_state_dict(tmp_path / "n.safetensors").kind
    with pytest.raises(ArgumentError, match="expected the names of a known layout"):
        convert.from_state_dict({**net.weights, "another.weight": torch.ones(1)})


def test_recbole_checkpoints_without_padding(tmp_path):
    padded = [np.vstack([np.full((1, WIDTH), 9), rows]).astype(np.float32) for rows in (P, Q)]
    tables = dict(zip(("user_embedding.weight", "item_embedding.weight"), map(torch.as_tensor, padded), strict=True))
    torch.save({"config": {"model": "BPR"}, "state_dict": tables, "other_parameter": {}}, tmp_path / "bpr.pth")
    converted = convert.from_recbole(tmp_path / "bpr.pth")
    assert [list(ids) for ids in converted.ids] == [list(range(1, USERS + 1)), list(range(1, ITEMS + 1))]
    close(logits(converted, tmp_path), P @ Q.T)
    kept = {"restore_user_e": tables["user_embedding.weight"] * 2, "restore_item_e": tables["item_embedding.weight"]}
    checkpoint = {"config": {"model": "LightGCN"}, "state_dict": tables}
    close(logits(convert.from_recbole({**checkpoint, "other_parameter": kept}), tmp_path), 2 * P @ Q.T)
    with pytest.raises(ArgumentError, match="expected a LightGCN with its propagated embeddings"):
        convert.from_recbole(checkpoint)
    with pytest.raises(ArgumentError, match="expected user_mf_embedding"):
        convert.from_recbole({"config": {"model": "NeuMF"}, "state_dict": tables})


class Config:
    """What stands for RecBole's class, which its files hold."""

    def __init__(self):
        self.final_config_dict = {"model": "BPR", "metrics": {"Recall", "NDCG"}, "learner": np.float64(2)}


def test_newer_pickle_protocols_are_read_without_running_anything(tmp_path, capsys):
    tables = {f"{side}_embedding.weight": torch.randn(count, 3) for side, count in (("user", 4), ("item", 5))}
    checkpoint = {"config": Config(), "state_dict": tables, "best": np.float64(0.5), "evil": Evil()}
    torch.save(checkpoint, tmp_path / "four.pth", pickle_protocol=4)
    converted = convert.from_recbole(tmp_path / "four.pth")
    np.testing.assert_array_equal(
        converted.tensors["gmf.user_embedding.weight"], tables["user_embedding.weight"][1:].numpy()
    )
    with pytest.raises(ArgumentError, match="expected weights that torch reads with weights_only"):
        convert.from_state_dict(tmp_path / "four.pth")
    assert capsys.readouterr().out == ""


def test_bfloat16_and_float64_weights(tmp_path):
    tensors = {"users": torch.as_tensor(P).bfloat16(), "items": torch.as_tensor(Q).double()}
    torch.save(tensors, tmp_path / "w.pt")
    from safetensors.torch import save_file as save_torch_file

    save_torch_file(tensors, tmp_path / "w.safetensors")
    expected = (tensors["users"].double() @ tensors["items"].T).numpy()
    for file in ("w.pt", "w.safetensors"):
        converted = convert.from_state_dict(tmp_path / file, names={"users": "users", "items": "items"})
        close(logits(converted, tmp_path), expected)


# ------------------------------------------------------------------------------- vectors, checkpoints of TensorFlow


def hnswlib_file(rows, labels, deleted=()):
    """Return the bytes of hnswlib's saveIndex for a graph without links."""
    links, record = 4 + 4 * 32, 4 + 4 * 32 + 4 * rows.shape[1] + 8
    header = np.array([0, 100, len(rows), record, record - 8, links], "<u8").tobytes()
    header += np.array([0, 0], "<i4").tobytes() + np.array([16, 32, 16], "<u8").tobytes() + bytes(16)
    records = []
    for at, (row, label) in enumerate(zip(rows, labels, strict=True)):
        head = bytes([0, 0, at in deleted]) + bytes(links - 3)
        records.append(head + row.astype("<f4").tobytes() + int(label).to_bytes(8, "little"))
    return header + b"".join(records) + bytes(4 * len(rows))


def test_vectors_with_ids(tmp_path):
    labels = np.random.default_rng(0).permutation(ITEMS) + 20
    np.savez(tmp_path / "items.npz", vectors=Q, ids=labels)
    np.save(tmp_path / "users.npy", P)
    (tmp_path / "items.bin").write_bytes(hnswlib_file(Q, labels, deleted=(2,)))
    converted = convert.from_vectors(tmp_path / "items.npz", tmp_path / "users.npy")
    assert converted.ids[1].tolist() == labels.tolist()
    close(logits(converted, tmp_path), P @ Q.T)
    out = ["--out", str(tmp_path / "model2"), "--user-vectors", str(tmp_path / "users.npy")]
    assert main(["convert", str(tmp_path / "items.bin"), "--from", "vectors", "--metric", "ip", *out]) == 0
    scores = neuralcf.Recommender.load(tmp_path / "model2").recommend(3, 10, exclude_seen=False, logits=True)
    kept = np.delete(np.arange(ITEMS), 2)
    order = kept[np.argsort(-(Q[kept] @ P[3]))]
    assert scores.ids.tolist() == labels[order].tolist()
    (tmp_path / "large.bin").write_bytes(hnswlib_file(Q, [2**63, *labels[1:]]))
    with pytest.raises(ArgumentError, match=r"large.bin: ids: expected integers that fit int64"):
        convert.from_vectors(tmp_path / "large.bin", P, metric="ip")
    np.savez(tmp_path / "twice.npz", vectors=Q, ids=np.zeros(ITEMS, int))
    with pytest.raises(ArgumentError, match=r"twice.npz: ids: expected unique ids, got 0 more than once"):
        convert.from_vectors(tmp_path / "twice.npz", P)
    with pytest.raises(ArgumentError, match="does not say its metric"):
        convert.from_vectors(tmp_path / "items.bin", P)
    with pytest.raises(ArgumentError, match="metric: expected \"ip\", the inner product, got 'cosine'"):
        convert.from_vectors(Q, P, metric="cosine")


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def checkpoint_of(variables, folder):
    """Write variables as TensorFlow's BundleWriter does, two blocks with shared beginnings of keys."""

    def field(number, value):
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    data, entries = b"", [(b"", field(1, 1))]
    for name, array in sorted(variables.items()):
        shape = b"".join(field(2, field(1, length)) for length in array.shape)
        entry = field(1, 1) + field(2, shape) + field(4, len(data)) + field(5, array.nbytes) + b"\x35" + bytes(4)
        entries.append((name.encode(), entry))
        data += array.astype("<f4").tobytes()

    def block(pairs):
        out, last = b"", b""
        for key, value in pairs:
            shared = next((at for at, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), 0)
            out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            last = key
        return out + bytes(4) + (1).to_bytes(4, "little")

    table, handles = b"", []
    for part in (entries[:3], entries[3:]):
        body = block(part)
        handles.append((part[-1][0], varint(len(table)) + varint(len(body))))
        table += body + bytes(5)
    index = block(handles)
    footer = varint(0) + varint(0) + varint(len(table)) + varint(len(index))
    table += index + bytes(5) + footer + bytes(40 - len(footer)) + (0xDB4775248B80FB57).to_bytes(8, "little")
    (folder / "model.ckpt.index").write_bytes(table)
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(data)


def test_recommenders_checkpoint(tmp_path):
    random = np.random.default_rng(5)
    mlp = {side: random.standard_normal((rows, 3)).astype(np.float32) for side, rows in (("P", USERS), ("Q", ITEMS))}
    w0, w1 = random.standard_normal((6, 5)), random.standard_normal((5, WIDTH))
    b0, b1, h = random.standard_normal(5), random.standard_normal(WIDTH), random.standard_normal((2 * WIDTH, 1))
    variables = {
        "embedding/embedding_gmf_P": P,
        "embedding/embedding_gmf_Q": Q,
        **{f"embedding/embedding_mlp_{side}": rows for side, rows in mlp.items()},
        "mlp/fully_connected/weights": w0,
        "mlp/fully_connected/biases": b0,
        "mlp/fully_connected_1/weights": w1,
        "mlp/fully_connected_1/biases": b1,
        "ncf/fully_connected/weights": h,
        "optimizer/embedding/embedding_gmf_P/Adam": P,
    }
    variables = {name: array.astype(np.float32) for name, array in variables.items()}
    checkpoint_of(variables, tmp_path)
    users, items = (side.ravel() for side in np.indices((USERS, ITEMS)))
    x = np.maximum(np.hstack([mlp["P"][users], mlp["Q"][items]]) @ w0 + b0, 0)
    x = np.maximum(x @ w1 + b1, 0)
    close(
        logits(convert.from_recommenders(tmp_path), tmp_path),
        (np.hstack([P[users] * Q[items], x]) @ h).reshape(USERS, ITEMS),
    )

    variables["ncf/fully_connected/weights"] = h[:WIDTH].astype(np.float32)
    checkpoint_of(variables, tmp_path)
    with pytest.raises(ArgumentError, match="model_type: expected gmf or mlp, for an output of 4, got None"):
        convert.from_recommenders(tmp_path)
    converted = convert.from_recommenders(tmp_path, model_type="mlp")
    close(logits(converted, tmp_path), (x @ h[:WIDTH]).reshape(USERS, ITEMS))
    table = (tmp_path / "model.ckpt.index").read_bytes()
    for damaged in (table[:-1], table[:100], b"", table[:-60] + bytes(60)):
        (tmp_path / "model.ckpt.index").write_bytes(damaged)
        with pytest.raises(ModelFormatError):
            read_variables(tmp_path / "model.ckpt")


# ------------------------------------------------------------------------------------------------------ the other way


def test_to_dot_product(tmp_path):
    names = {"users": "u", "items": "i", "item_biases": "b"}
    ids = ([f"u{at}" for at in range(USERS)], np.arange(ITEMS) * 2)
    converted = convert.from_state_dict({"u": P, "i": Q, "b": BI}, names=names, ids=ids)
    found = logits(converted, tmp_path)
    vectors = convert.to_dot_product(tmp_path / "model")
    assert vectors.user_ids == ids[0]
    assert vectors.item_ids.tolist() == ids[1].tolist()
    close(vectors.user_vectors @ vectors.item_vectors.T + vectors.bias, found)
    module = neuralcf.GMF(USERS, ITEMS, factors=WIDTH)
    vectors = convert.to_dot_product(module)
    neuralcf.export(module, tmp_path / "gmf.safetensors")
    scorer = neuralcf.Scorer.load(tmp_path / "gmf.safetensors")
    scores = scorer.score_batch(np.zeros(ITEMS, int), np.arange(ITEMS), logits=True)
    close(vectors.user_vectors[0] @ vectors.item_vectors.T + vectors.bias, scores)
    with pytest.raises(ArgumentError, match="expected a gmf, whose score is a dot product, got mlp"):
        convert.to_dot_product(neuralcf.MLP(USERS, ITEMS, layers=(4, 2)))


# ------------------------------------------------------------------------------------------------------------- errors


class Evil:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("library", ["lightfm", "surprise", "cornac"])
def test_nothing_is_unpickled_without_trust(library, tmp_path, capsys):
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(Evil()))
    arguments = ["convert", str(file), "--from", library, "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "a pickle, which can run any program when it is read; expected --trust if" in printed.err
    assert main([*arguments, "--trust"]) == 2
    assert capsys.readouterr().out == "unpickled\n"


def test_weights_and_arrays_never_run_code(tmp_path, capsys):
    torch.save({"state_dict": {"w": torch.ones(2)}, "x": Evil()}, tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", user_factors=np.array([Evil()], object), item_factors=Q)
    (tmp_path / "evil2.npz").write_bytes(pickle.dumps(Evil()))
    for call, message in [
        (lambda: convert.from_state_dict(tmp_path / "evil.pth"), "expected weights that torch reads with weights_only"),
        (lambda: convert.from_recbole(tmp_path / "evil.pth"), "expected BPR, LightGCN or NeuMF of RecBole"),
        (
            lambda: convert.from_implicit(tmp_path / "evil.npz"),
            "expected arrays of numbers or text, got Python objects",
        ),
        (lambda: convert.from_implicit(tmp_path / "evil2.npz"), "expected arrays of numpy, got a pickle"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            call()
    assert capsys.readouterr().out == ""


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("name", "content", "library", "message"),
    [
        ("a.npz", npz(similarity=P), "implicit", "expected user_factors and item_factors of implicit, got similarity"),
        ("a.npz", npz(user_factors=P, item_factors=Q[:, 1:]), "implicit", "expected equally many factors, got 4 and 3"),
        ("a.npz", npz(user_factors=P * np.inf, item_factors=Q), "implicit", "user_factors: expected finite numbers"),
        ("a.npz", npz(user_factors=P[:0], item_factors=Q), "implicit", "user_factors: expected at least one row"),
        ("a.npz", npz(user_factors=["x"], item_factors=Q), "implicit", "user_factors: expected an array of numbers"),
        ("a.npz", npz(user_factors=P, item_factors=Q)[:90], "implicit", "not a file of numpy"),
        ("a.txt", b"1 2", "implicit", "expected a file that ends in .npz"),
        ("a.npz", npz(users=P), "lightfm", "expected a fitted LightFM model, got one without user_embeddings"),
        ("a.npz", npz(users=P), "librecommender", "expected user and item embeddings of LibRecommender"),
        ("a.npz", npz(users=P), "recommenders", "expected the variables of NCF of recommenders, got users"),
        ("a.npz", npz(users=P), "weights", r"expected the names of a known layout, or --map that map"),
        ("a.safetensors", safetensors({"w": {}}), "weights", "not a safetensors file"),
        ("a.safetensors", b"\xff" * 20, "weights", "expected a header inside the file"),
        (
            "a.safetensors",
            safetensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)),
            "weights",
            "w: expected data inside the file",
        ),
        (
            "a.safetensors",
            safetensors({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
            "weights",
            "w: .3. of F32 do not fit 8 bytes",
        ),
        ("a.pkl", b"PK", "surprise", "expected a pickle by surprise.dump, got another kind of file"),
    ],
)
def test_bad_files(name, content, library, message, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    arguments = ["convert", str(tmp_path / name), "--from", library, "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("neuralcf: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_bad_options(tmp_path, capsys):
    (tmp_path / "als.npz").write_bytes(npz(user_factors=P, item_factors=Q))
    (tmp_path / "ids.txt").write_text("1\n2\n")
    scipy.sparse.save_npz(tmp_path / "seen.npz", SEEN.T.tocsr())
    scipy.sparse.save_npz(tmp_path / "coo.npz", SEEN.tocoo())
    ids = str(tmp_path / "ids.txt")
    for options, message in [
        (["--trust"], "--trust: not an option of --from implicit"),
        (["--map", "users=a"], "--map: not an option of --from implicit"),
        (["--user-ids", ids], "--user-ids, --item-ids: expected both or neither"),
        (["--user-ids", ids, "--item-ids", ids], "--user-ids: expected 7 ids, one for each user, got 2"),
        (["--seen", str(tmp_path / "seen.npz")], "expected 7 x 11, got 11 x 7"),
        (["--seen", str(tmp_path / "coo.npz")], "--seen"),
        (["--seen", str(tmp_path / "als.npz")], "expected a CSR matrix by scipy.sparse.save_npz"),
    ]:
        arguments = ["convert", str(tmp_path / "als.npz"), "--from", "implicit", "--out", str(tmp_path / "out")]
        assert main([*arguments, *options]) == 2
        assert message in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "no.npz"), "--from", "implicit", "--out", str(tmp_path / "out")]) == 2
    assert "no.npz: No such file or directory" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "als.npz"), "--from", "vectors", "--out", str(tmp_path / "out")]) == 2
    assert "expected --user-vectors" in capsys.readouterr().err


def test_every_library_has_a_name_on_the_command_line(capsys):
    from neuralcf.cli.convert import LIBRARY_NAMES

    assert tuple(LIBRARIES) == LIBRARY_NAMES
    with pytest.raises(SystemExit):
        main(["convert", "x", "--from", "nothing", "--out", "y"])
    assert "invalid choice" in capsys.readouterr().err
