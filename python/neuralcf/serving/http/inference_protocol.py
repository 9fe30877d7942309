"""The Open Inference Protocol, version 2: the models `recommend` and `score`, as tensors in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from neuralcf._core import __version__
from neuralcf.serving.http.batching import Ask
from neuralcf.serving.http.endpoint import Call, Route
from neuralcf.serving.http.fields import Schema, check
from neuralcf.serving.http.model import ServedModel
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.schemas import Schemas
from neuralcf.serving.requests import RecommendRequest

__all__ = ["InferenceProtocol"]

_LOWEST: Final = float(np.finfo(np.float32).min)
"""The score of padding: JSON has no infinity."""
_NAMES: Final = ("recommend", "score")

Health = Callable[[Call], Awaitable[Any]]


class InferenceProtocol:
    """The six routes of the protocol, over the service's own queries."""

    def __init__(
        self,
        model: ServedModel,
        ask: Ask,
        livez: Health,
        readyz: Health,
        schemas: Schemas,
    ) -> None:
        """Make the routes.

        Args:
            model: what is served.
            ask: answers a query.
            livez: answers whether the process lives.
            readyz: answers whether it can answer.
            schemas: what a request may say.
        """
        self._model = model
        self._ask = ask
        self._livez = livez
        self._readyz = readyz
        of_users = {"k": schemas.k, **schemas.of_users}
        self._parameters = {
            name: of_users[name] for name in ("k", "exclude_seen", "logits", "search", "recall", "probes")
        }
        self._max_users = schemas.max_users
        self._max_items = int(schemas.items["maxItems"])

    def routes(self) -> list[Route]:
        """Return the routes."""
        tensor: Schema = {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"type": "string", "maxLength": 100},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 1},
                "datatype": {"type": "string", "enum": ["INT64", "BYTES"]},
                "data": {"type": "array", "items": {"type": ["integer", "string"]}, "maxItems": self._max_items},
            },
        }
        fields: dict[str, Schema] = {
            "id": {"type": "string", "maxLength": 1000},
            "parameters": {"type": "object", "properties": self._parameters, "default": {}},
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 2},
            "outputs": {
                "type": "array",
                "maxItems": 3,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string", "maxLength": 100}},
                },
            },
        }
        found: list[Route] = [
            Route("/v2", ("GET",), "The server", self.server, open=True, admitted=False),
            Route("/v2/health/live", ("GET",), "Whether the process lives", self._livez, open=True, admitted=False),
            Route("/v2/health/ready", ("GET",), "Whether it can answer now", self._readyz, open=True, admitted=False),
        ]
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            found += [
                Route(path, ("GET",), "A model", self.metadata, refusals=(404,), admitted=False),
                Route(f"{path}/ready", ("GET",), "Whether it can answer", self.ready, refusals=(404,), admitted=False),
                Route(
                    f"{path}/infer",
                    ("POST",),
                    "Answer with a model",
                    self.infer,
                    fields=fields,
                    required=("inputs",),
                    refusals=(404,),
                ),
            ]
        return found

    async def server(self, _call: Call) -> Any:
        """Tell what the server is."""
        return {"name": "neuralcf", "version": __version__, "extensions": []}

    async def metadata(self, call: Call) -> Any:
        """Tell what a model takes and gives."""
        name, model = self._find(call)
        users, items = (_datatype(ids.kind) for ids in (model.recommender.user_ids, model.recommender.item_ids))
        inputs, outputs = [("users", users, [-1])], [("scores", "FP32", [-1])]
        if name == "score":
            inputs.append(("items", items, [-1]))
        else:
            outputs = [("items", items, [-1, -1]), ("scores", "FP32", [-1, -1]), ("counts", "INT64", [-1])]
        return {
            "name": name,
            "versions": [str(model.version)],
            "platform": "neuralcf",
            "inputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in inputs],
            "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in outputs],
        }

    async def ready(self, call: Call) -> Any:
        """Tell whether a model can answer."""
        name, _ = self._find(call)
        return {"name": name, **await self._readyz(call)}

    async def infer(self, call: Call) -> Any:
        """Answer a request."""
        name, _ = self._find(call)
        inputs = {tensor["name"]: tensor for tensor in call.fields["inputs"]}
        given = {name: value for name, value in call.fields["parameters"].items() if value is not None}
        parameters = check(given, self._parameters)  # with defaults also where a request has no parameters
        expected = ("users",) if name == "recommend" else ("users", "items")
        if sorted(inputs) != sorted(expected) or len(inputs) < len(call.fields["inputs"]):
            raise RefusedError(422, "bad_argument", f"inputs: expected {' and '.join(expected)}, each once")
        model = self._model.recommender
        users = _ids(inputs["users"], model.user_ids.kind)
        if name == "recommend":
            if len(users) > self._max_users:
                raise RefusedError(422, "too_many", f"users: expected at most {self._max_users}, got {len(users)}")
            answer = await self._ask(RecommendRequest(users, **parameters), call)
            outputs = _lists(answer.value, _datatype(model.item_ids.kind))
        else:
            items, logits = _ids(inputs["items"], model.item_ids.kind), parameters["logits"]
            answer = await self._ask(lambda recommender: recommender.score_batch(users, items, logits=logits), call)
            outputs = [_tensor("scores", "FP32", [len(answer.value)], answer.value.tolist())]
        return {
            "model_name": name,
            "model_version": str(self._model.version_of(answer.recommender)),
            **({} if call.fields["id"] is None else {"id": call.fields["id"]}),
            "outputs": _wanted(outputs, call.fields["outputs"]),
        }

    def _find(self, call: Call) -> tuple[str, ServedModel]:
        """Return the model that a path names.

        Raises:
            RefusedError: 404.
        """
        name, version, model = call.path["name"], call.path.get("version"), self._model
        if name not in _NAMES:
            raise RefusedError(404, "unknown_model", f"model: expected {' or '.join(_NAMES)}")
        if version not in (None, str(model.version)):
            raise RefusedError(404, "unknown_model", f"version: expected {model.version}")
        return name, model


def _datatype(kind: str) -> str:
    return "BYTES" if kind == "str" else "INT64"


def _ids(tensor: Mapping[str, Any], kind: str) -> list[Any]:
    """Return the ids in a tensor.

    Raises:
        RefusedError: 422; a tensor whose parts disagree, or of the other type.
    """
    name, data = tensor["name"], tensor["data"]
    if tensor["datatype"] != _datatype(kind):
        got = tensor["datatype"]
        raise RefusedError(422, "bad_argument", f"{name}: expected datatype {_datatype(kind)}, got {got}")
    if tensor["shape"] != [len(data)]:
        got = tensor["shape"]
        raise RefusedError(422, "bad_argument", f"{name}: expected the shape of its data, [{len(data)}], got {got}")
    schema: Schema = (
        {"type": "string"} if kind == "str" else {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    )
    ids: list[Any] = check({name: data}, {name: {"type": "array", "items": schema}})[name]
    return ids


def _lists(best: Any, datatype: str) -> list[dict[str, Any]]:
    shape = list(best.ids.shape)
    ids = ["" if one is None else one for one in best.ids.ravel().tolist()]
    scores = np.maximum(best.scores, np.float32(_LOWEST)).ravel().tolist()
    return [
        _tensor("items", datatype, shape, ids),
        _tensor("scores", "FP32", shape, scores),
        _tensor("counts", "INT64", shape[:1], best.counts.tolist()),
    ]


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _wanted(outputs: list[dict[str, Any]], wanted: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Return the outputs that were asked for, all by default.

    Raises:
        RefusedError: 422; an output that the model does not have.
    """
    by_name = {tensor["name"]: tensor for tensor in outputs}
    names = list(by_name) if not wanted else [one["name"] for one in wanted]
    for name in names:
        if name not in by_name:
            raise RefusedError(422, "bad_argument", f"outputs: expected {', '.join(by_name)}, got another name")
    return [by_name[name] for name in names]
