"""The routes of pairs of a user and an item: /score, /explain."""

from __future__ import annotations

from typing import Any

from neuralcf.serving.explanation import Explanation
from neuralcf.serving.http.batching import Ask
from neuralcf.serving.http.endpoint import Call, Route
from neuralcf.serving.http.fields import Schema
from neuralcf.serving.http.lists import signed, titled
from neuralcf.serving.http.model import ServedModel
from neuralcf.serving.http.schemas import Schemas, answer_schema
from neuralcf.serving.recommender import Recommender

__all__ = ["PairRoutes"]


class PairRoutes:
    """The routes, over the queries of a `Recommender`."""

    def __init__(self, model: ServedModel, ask: Ask, ask_aside: Ask, schemas: Schemas) -> None:
        """Make them; the arguments are those of `ListRoutes`."""
        self._model = model
        self._ask = ask
        self._ask_aside = ask_aside
        self._schemas = schemas

    def routes(self) -> list[Route]:
        """Return the routes."""
        schemas = self._schemas
        number: Schema = {"type": "number"}
        numbers: Schema = {"type": "array", "items": number}
        reason: Schema = {
            "type": "object",
            "required": ["item", "contribution"],
            "properties": {"item": schemas.item, "contribution": number, "title": schemas.title},
        }
        explained: dict[str, Schema] = {
            "user": schemas.user,
            "item": schemas.item,
            "title": schemas.title,
            "probability": number,
            "logit": number,
            "bias": number,
            "gmf": numbers,
            "mlp": numbers,
            "reasons": {"type": "array", "items": reason},
        }
        most = schemas.items["maxItems"]
        return [
            Route(
                "/score",
                ("POST", "GET"),
                "Scores of pairs of a user and an item",
                self.score,
                fields={
                    "users": {**schemas.users, "maxItems": most, "description": "one user, or one for each item"},
                    "items": {**schemas.items, "description": "ids of items"},
                    "logits": schemas.logits,
                },
                required=("users", "items"),
                response=answer_schema({"scores": numbers}),
                refusals=(404,),
            ),
            Route(
                "/explain",
                ("POST", "GET"),
                "Why an item has its score for a user",
                self.explain,
                fields={
                    "user": {**schemas.user, "description": "the id of a user"},
                    "item": {**schemas.item, "description": "the id of an item"},
                    "reasons": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": 100,
                        "default": 5,
                        "description": "how many items of the user to name that speak most for it",
                    },
                },
                required=("user", "item"),
                response=answer_schema(explained, optional=("title",)),
                refusals=(404,),
            ),
        ]

    async def score(self, call: Call) -> Any:
        """Answer /score."""
        users, items, logits = call.fields["users"], call.fields["items"], call.fields["logits"]
        one = users[0] if len(users) == 1 else users
        answer = await self._ask(lambda recommender: recommender.score_batch(one, items, logits=logits), call)
        return signed({"scores": answer.value.tolist()}, answer)

    async def explain(self, call: Call) -> Any:
        """Answer /explain."""
        user, item, reasons = call.fields["user"], call.fields["item"], call.fields["reasons"]

        def explain(recommender: Recommender) -> Explanation:
            return recommender.explain(user, item, reasons=reasons)

        answer = await self._ask_aside(explain, call)
        why: Explanation = answer.value
        titles = self._model.titles
        items, contributions = [one for one, _ in why.reasons], [contribution for _, contribution in why.reasons]
        body = {
            "user": user,
            "item": item,
            **({} if titles is None else {"title": titles.get(item)}),
            "probability": why.probability,
            "logit": why.logit,
            "bias": why.bias,
            "gmf": why.gmf.tolist(),
            "mlp": why.mlp.tolist(),
            "reasons": titled(items, "contribution", contributions, titles),
        }
        return signed(body, answer)
