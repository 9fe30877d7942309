"""A deployment on Ray Serve that answers what waits with one call: NEURALCF_MODEL=model serve run ray_serve:app."""

import os
from typing import Any

from ray import serve
from starlette.requests import Request

import neuralcf
from neuralcf.serving.requests import RecommendRequest, recommend_requests


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})
class Recommendations:
    """Holds the model; each replica loads its own."""

    def __init__(self, path: str) -> None:
        self.recommender = neuralcf.Recommender.load(path, threads=1)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def answer(self, requests: list[RecommendRequest]) -> list[Any]:
        """Answer many requests, each with its own users, k and filters; a bad one gets its own error."""
        answers = recommend_requests(self.recommender, requests)
        return [{"error": str(one)} if isinstance(one, Exception) else one.to_list() for one in answers]

    async def __call__(self, http: Request) -> Any:
        """Answer `{"users": [3, 7], "k": 5}`."""
        asked = await http.json()
        return await self.answer(RecommendRequest(asked["users"], k=asked.get("k", 10)))


app = Recommendations.bind(os.environ["NEURALCF_MODEL"])
