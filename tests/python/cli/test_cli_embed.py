"""`neuralcf embed`: vectors by features alone are those that training folded in; errors."""

import csv

import numpy as np
import pytest

import neuralcf
from neuralcf._core import read_features
from neuralcf.cli import main
from neuralcf.data import planted_taste

NEUMF = ["--epochs", "1", "--factors", "4", "--layers", "8,4"]
DISTILLED = ["--set", "teachers=ials", "--set", "ials_factors=4", "--set", "factors=6", "--set", "search=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    data = planted_taste(40, 30, interactions_per_user=6).dataset
    rows = [f"{user},i{item},{time}" for user, item, time in zip(data.users, data.items, data.timestamps, strict=True)]
    (folder / "ratings.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    values = [f"i{n},{'abc'[n % 3]}|{'de'[n % 2]},{1990 + n},{'xyz'[n % 3]}" for n in range(30)]
    (folder / "items.csv").write_text("\n".join(["item,genres,year,note", *values]))
    new = ["year,note,genres,item", "2005,z,c|e|new,old", ",,,empty", "1995,?,a,i0"]
    (folder / "new.csv").write_text("\n".join(new))
    for name, settings in (("neumf", NEUMF), ("distilled", DISTILLED)):
        features = ["--item-features", str(folder / "items.csv"), "--item-feature-columns", "genres,year:number,note"]
        assert main(["train", str(folder / "ratings.csv"), "--out", str(folder / name), *settings, *features]) == 0
    assert main(["train", str(folder / "ratings.csv"), "--out", str(folder / "plain"), *NEUMF]) == 0
    return folder


def embed(folder, model, *arguments):
    return main(["embed", str(folder / model), *arguments])


@pytest.mark.parametrize(("model", "widths"), [("neumf", {"gmf": 4, "mlp": 4}), ("distilled", {"gmf": 6})])
def test_vectors_are_the_sums_of_the_map(model, widths, folder, capsys):
    arguments = ["--item-features", str(folder / "new.csv"), "--out", str(folder / "new.npz")]
    assert embed(folder, model, *arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"vectors of 3 items written to {folder / 'new.npz'}: gmf [3, {widths['gmf']}]")
    assert "1 values of genres are not known" in printed.err
    model_id, sides = read_features(folder / model)
    assert model_id == neuralcf.Scorer.load(folder / model).metadata["model_id"]
    columns, *maps = sides["item"]
    assert [column[0:3] for column in columns] == [
        ("genres", "multi", ["a", "b", "c", "d", "e"]),
        ("year", "number", []),
        ("note", "category", ["x", "y", "z"]),
    ]
    vectors = np.load(folder / "new.npz")
    assert vectors["ids"].tolist() == ["old", "empty", "i0"]
    for name, weights in zip(("gmf", "mlp"), maps, strict=True):
        assert (weights is None) == (name not in widths)
        if weights is not None:
            shared, a, _, c, _, e, year, _, _, z = weights.astype(np.float64)
            mean, deviation = columns[1][3:]
            expected = [shared + c + e + (2005 - mean) / deviation * year + z, shared]
            expected.append(shared + a + (1995 - mean) / deviation * year)
            np.testing.assert_allclose(vectors[name], expected, rtol=1e-5, atol=1e-7)

    assert embed(folder, model, *arguments[:2], "--out", str(folder / "new.csv.csv")) == 0
    header, *rows = csv.reader((folder / "new.csv.csv").read_text().splitlines())
    assert header == ["id", *(f"{name}_{at}" for name, width in widths.items() for at in range(width))]
    flat = np.concatenate([vectors[name] for name in widths], axis=1)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), flat)


def test_errors(folder, capsys):
    new = ["--item-features", str(folder / "new.csv")]
    out = ["--out", str(folder / "x.npz")]
    for model, arguments, message in [
        ("plain", [*new, *out], "plain: expected a model that was trained with --item-features"),
        ("neumf", ["--user-features", new[1], *out], "neumf: expected a model that was trained with --user-features"),
        ("neumf", [*new, "--out", "x.txt"], "--out: expected a name that ends in .npz or .csv, got x.txt"),
        ("neumf", [*new, *out, "--id-column", "key"], "expected one of the columns"),
        ("absent", [*new, *out], "absent: cannot open: No such file or directory"),
    ]:
        assert embed(folder, model, *arguments) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "x.npz").exists()


def test_maps_that_do_not_fit_are_refused(tmp_path):
    weights = {"gmf.user_embedding.weight": (3, 2), "gmf.item_embedding.weight": (4, 2), "output.weight": (1, 2)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in weights.items()}
    tensors["output.bias"] = np.zeros(1, np.float32)
    with pytest.raises(neuralcf.ModelFormatError, match=r"items\.columns\.bytes is missing"):
        neuralcf.save(tensors, tmp_path / "m", kind="gmf", features={"items.gmf": np.ones((2, 2), np.float32)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(neuralcf.ArgumentError, match="cannot hold features"):
        neuralcf.save(tensors, tmp_path / "m.safetensors", kind="gmf", features={})
