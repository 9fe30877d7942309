"""NCF of Microsoft's recommenders: the checkpoint that `NCF.save` wrote, read without TensorFlow.

Its variables are embeddings of both blocks, whatever the type of the model, and an output layer without bias, whose
width tells the type.
"""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from neuralcf.convert.converted import Converted, Ids, library_ids
from neuralcf.convert.networks import network
from neuralcf.convert.opening import is_path, read_arrays
from neuralcf.convert.tf_checkpoint import read_variables
from neuralcf.errors import ArgumentError, argument
from neuralcf.format.checks import Interactions

__all__ = ["from_recommenders"]

_EMBEDDINGS = tuple(f"embedding/embedding_{block}_{side}" for block in ("gmf", "mlp") for side in "PQ")
_LAYER = re.compile(r"mlp/fully_connected(?:_(\d+))?/weights")
_OUTPUT = re.compile(r"ncf/fully_connected(?:_\d+)?/weights")


def from_recommenders(
    source: str | PathLike[str] | Any,
    *,
    model_type: str | None = None,
    ids: Ids | None = None,
    seen: Interactions | None = None,
) -> Converted:
    """Convert NCF of Microsoft's recommenders.

    Args:
        source: the directory that `NCF.save` wrote; its variables in a .npz file by name; or the model in memory.
        model_type: "gmf", "mlp" or "neumf"; needed for a file if the blocks are equally wide and it is not NeuMF.
        ids: the external ids in the order of `user2id` and `item2id`; those of a model in memory, and its numbers of a
            file, if None.
        seen: the interactions known at training time.

    Raises:
        ArgumentError: another file, a type that does not fit the output layer, or ids that are neither all integers
            nor all text.
        ModelFormatError: a damaged checkpoint.
        OSError: a file cannot be read.
    """
    where = fspath(source) if is_path(source) else "source"
    if not is_path(source):
        variables, model_type, ids = _of_model(source, ids)
    elif fspath(source).endswith(".npz"):
        variables = read_arrays(source)
    else:
        variables = read_variables(Path(source) / "model.ckpt" if Path(source).is_dir() else Path(source))
    variables = {name.removesuffix(":0"): value for name, value in variables.items() if "Adam" not in name}
    outputs = [value for name, value in variables.items() if _OUTPUT.fullmatch(name)]
    if not set(_EMBEDDINGS) <= variables.keys() or len(outputs) != 1:
        raise ArgumentError(
            f"{where}: expected the variables of NCF of recommenders, got {', '.join(variables) or 'none'}"
        )
    numbered = {int(found[1] or 0): name for name in variables if (found := _LAYER.fullmatch(name))}
    absent = [name for name in numbered.values() if name.replace("weights", "biases") not in variables]
    flat = [name for name in (*_EMBEDDINGS, *numbered.values()) if variables[name].ndim != 2]
    if absent or flat or outputs[0].ndim != 2:
        raise ArgumentError(f"{where}: expected matrices and a bias for each layer, got none for {[*absent, *flat]}")
    layers = [(variables[name].T, variables[name.replace("weights", "biases")]) for _, name in sorted(numbered.items())]
    gmf, mlp = ((variables[a], variables[b]) for a, b in (_EMBEDDINGS[:2], _EMBEDDINGS[2:]))
    widths = {"gmf": gmf[0].shape[1], "mlp": layers[-1][0].shape[0] if layers else mlp[0].shape[1] * 2}
    widths["neumf"] = widths["gmf"] + widths["mlp"]
    types = [name for name, width in widths.items() if width == outputs[0].shape[0] and model_type in (None, name)]
    if len(types) != 1:
        expected = " or ".join(types) or ", ".join(widths)
        raise ArgumentError(
            f"{where}: {argument('model_type')}: expected {expected}, for an output of {outputs[0].shape[0]}, got "
            f"{model_type}"
        )
    return network(
        "recommenders",
        f"NCF {types[0]}",
        gmf=None if types[0] == "mlp" else gmf,
        mlp=None if types[0] == "gmf" else mlp,
        layers=layers,
        output=(outputs[0].T, None),
        ids=ids,
        seen=seen,
    )


def _of_model(model: Any, ids: Ids | None) -> tuple[dict[str, Any], str, Ids | None]:
    if not hasattr(model, "embedding_gmf_P") or not hasattr(model, "sess"):
        raise ArgumentError(f"source: expected NCF of recommenders, got {type(model).__name__}")
    with model.sess.graph.as_default():
        variables = model.sess.graph.get_collection("variables")
    values = model.sess.run({variable.name: variable for variable in variables})
    if ids is None and hasattr(model, "user2id"):
        users, items = (
            library_ids(sorted(map_, key=map_.get), f"source: {name}")
            for name, map_ in (("user2id", model.user2id), ("item2id", model.item2id))
        )
        ids = users, items
    return values, str(model.model_type), ids
