"""The same models behind FastAPI, as a user would write it.

`uvicorn --factory benches.serving.peers:torch_app`, or `implicit_app`; `NEURALCF_MODEL` is a directory that
`models.made` wrote.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from neuralcf._core import read_weights

__all__ = ["implicit_app", "torch_app"]


class Question(BaseModel):
    """The body of a request."""

    users: list[int]
    k: int = 10


def _seen(users: int, indptr: Any, indices: Any) -> list[Any]:
    return [indices[indptr[user] : indptr[user + 1]] for user in range(users)]


def _stored(path: str) -> tuple[dict[str, Any], Any]:
    from safetensors.numpy import load_file

    _, tensors, *_ = read_weights(path)
    return tensors, load_file(f"{path}/seen.safetensors")


def torch_app() -> FastAPI:
    """Return FastAPI with torch in eager mode: one row for each item through the network, then `topk`."""
    import torch

    from neuralcf.models import GMF, NeuMF

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tensors, seen = _stored(os.environ["NEURALCF_MODEL"])
    users, width = tensors["gmf.user_embedding.weight"].shape
    items = len(tensors["gmf.item_embedding.weight"])
    module: Any = GMF(users, items, width)
    if "mlp.layers.0.weight" in tensors:
        module = NeuMF(users, items, width, layers=(64, 32, 16, 8))
    module.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
    module.eval()
    every = torch.arange(items)
    rows = [torch.from_numpy(row.astype(np.int64)) for row in _seen(users, seen["indptr"], seen["indices"])]
    app = FastAPI()

    @app.post("/recommend")
    def recommend(asked: Question) -> list[dict[str, float]]:
        with torch.inference_mode():
            user = asked.users[0]
            logits = module(torch.full((items,), user), every)
            logits[rows[user]] = -torch.inf
            best = torch.topk(torch.sigmoid(logits), asked.k)
        return [{"item": i, "score": s} for i, s in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    return app


def implicit_app() -> FastAPI:
    """Return FastAPI with implicit's matrix factorisation, which has dot products alone."""
    import scipy.sparse as sp
    from implicit.cpu.als import AlternatingLeastSquares

    tensors, seen = _stored(os.environ["NEURALCF_MODEL"])
    model = AlternatingLeastSquares(factors=tensors["gmf.user_embedding.weight"].shape[1], num_threads=1)
    model.user_factors = tensors["gmf.user_embedding.weight"] * tensors["output.weight"]
    model.item_factors = tensors["gmf.item_embedding.weight"]
    shape = len(model.user_factors), len(model.item_factors)
    ones = np.ones(len(seen["indices"]), np.float32)
    rows = sp.csr_matrix((ones, seen["indices"], seen["indptr"]), shape=shape)
    app = FastAPI()

    @app.post("/recommend")
    def recommend(asked: Question) -> list[dict[str, float]]:
        user = asked.users[0]
        ids, scores = model.recommend(user, rows[user], N=asked.k, filter_already_liked_items=True)
        return [{"item": i, "score": s} for i, s in zip(ids.tolist(), scores.tolist(), strict=True)]

    return app
