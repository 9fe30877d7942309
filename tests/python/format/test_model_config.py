"""A config.json with a wrong entry is rejected in one sentence: where, what was expected, what was found."""

import json
import re

import numpy as np
import pytest

import neuralcf
from neuralcf.cli import main
from neuralcf.errors import ArgumentError, ModelFormatError
from neuralcf.format.config import read_config

TENSORS = {
    "gmf.user_embedding.weight": np.ones((2, 1), np.float32),
    "gmf.item_embedding.weight": np.ones((3, 1), np.float32),
    "output.weight": np.ones((1, 1), np.float32),
    "output.bias": np.zeros(1, np.float32),
}
COMMANDS = ("inspect", "evaluate", "compare", "report")
WRONG = [
    ({"data": []}, "data: expected an object, got []", COMMANDS),
    ({"training": "x"}, 'training: expected an object, got "x"', COMMANDS),
    ({"metrics": {"HR@10": 1}}, 'metrics: expected a list, got {"HR@10": 1}', COMMANDS),
    ({"history": None}, "history: expected a list, got null", COMMANDS),
    ({"training": {"seed": "3"}}, "training: seed: expected an integer of at least 0, got '3'", COMMANDS[1:]),
    ({"training": {"seed": -1}}, "training: seed: expected an integer of at least 0, got -1", COMMANDS[1:]),
    ({"data": {"split": 0.1}}, "data: split: expected a string, got 0.1", COMMANDS[1:]),
]


def put(path, entries):
    """Add entries to the config.json of a model, as another program might."""
    config = json.loads((path / "config.json").read_text())
    own = {"files", "sha256"}  # another program keeps no digests
    kept = {key: value for key, value in config.items() if key not in own}
    (path / "config.json").write_text(json.dumps(kept | entries))


@pytest.fixture
def model(tmp_path):
    neuralcf.save(TENSORS, tmp_path / "model", kind="gmf")
    return tmp_path / "model"


@pytest.mark.parametrize(("entries", "message", "commands"), WRONG, ids=[wrong[1] for wrong in WRONG])
def test_commands_name_the_wrong_entry(model, tmp_path, capsys, entries, message, commands):
    put(model, entries)
    (tmp_path / "ratings.csv").write_text("user,item\n0,1\n1,2\n0,2\n")
    arguments = {
        "inspect": [model],
        "evaluate": [model, tmp_path / "ratings.csv"],
        "compare": [model, "popularity", tmp_path / "ratings.csv"],
        "report": [model, tmp_path / "ratings.csv", "--out", tmp_path / "report.html"],
    }
    for command in commands:
        code = main([command, *map(str, arguments[command])])
        assert (code, capsys.readouterr().err) == (2, f"neuralcf: {model / 'config.json'}: {message}\n"), command


@pytest.mark.parametrize(("entries", "message"), [wrong[:2] for wrong in WRONG if wrong[2] is COMMANDS])
def test_save_rejects_what_the_reader_would_reject(tmp_path, entries, message):
    with pytest.raises(ArgumentError, match=re.escape(f"config: {message}")):
        neuralcf.save(TENSORS, tmp_path / "model", kind="gmf", config=entries)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_empty_and_anything_but_an_object_is_rejected(tmp_path):
    assert read_config(tmp_path) == {}
    for content, message in (("[1]", r"expected a JSON object, got \[1\]"), ("{", "expected JSON"), ("\xff", "JSON")):
        (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(ModelFormatError, match=message):
            read_config(tmp_path)
