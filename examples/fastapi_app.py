"""Recommendations inside your own FastAPI application: NEURALCF_MODEL=model uvicorn fastapi_app:app."""

import os
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query

import neuralcf

recommender = neuralcf.Recommender.load(os.environ["NEURALCF_MODEL"], threads=1)  # requests run side by side
app = FastAPI()


# Not `async`: FastAPI runs it on a thread, and the engine releases the GIL, so that requests run at the same time.
@app.get("/users/{user}/recommendations")
def recommendations(user: int, k: Annotated[int, Query(ge=1, le=100)] = 10) -> list[dict[str, int | float]]:
    """Answer with the best items of a user."""
    try:
        best = recommender.recommend(user, k)
    except neuralcf.UnknownUserError:
        raise HTTPException(404, f"user {user} is not known") from None
    return [{"item": item, "score": score} for item, score in best.to_list()]


@app.get("/health")
def health() -> dict[str, int]:
    """Answer whether the model is loaded."""
    return {"items": recommender.num_items}
