"""Synthetic data with a planted signal: each user likes a few genres, each item belongs to one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError

__all__ = ["PlantedTaste", "planted_taste"]

GENRES = (
    "Space Opera",
    "Noir",
    "Western",
    "Screwball",
    "Nature",
    "Heist",
    "Ghost Story",
    "Musical",
    "Courtroom",
    "Martial Arts",
    "Biopic",
    "Fairy Tale",
)


class PlantedTaste(NamedTuple):
    """A data set with readable names for users and items."""

    dataset: Dataset
    """Its ids are int64, equal to the dense indices."""

    user_titles: list[str]
    """U names that state the user's taste, such as "Noir and Western fan 17"."""

    item_titles: list[str]
    """I names that state the item's genre, such as "Space Opera 17"."""


def planted_taste(
    num_users: int = 2000,
    num_items: int = 1000,
    *,
    interactions_per_user: int = 30,
    genres: int = 12,
    tastes: int = 2,
    popularity: float = 0.7,
    noise: float = 0.1,
    seed: int = 0,
) -> PlantedTaste:
    """Sample interactions from planted tastes.

    User u likes `tastes` of the genres, with weights theta_u from a flat Dirichlet distribution. Item i, the n-th of
    its genre g, has popularity pi_i ~ (n + 1)^-popularity within g. Each user's items are sampled without replacement
    from

        P(i | u) = (1 - noise) theta_u[g(i)] pi_i + noise / I

    with random timestamps, so the latest item is distributed like any other. A model that finds the genres beats
    popularity by far; no model can be perfect.

    Args:
        num_users: U.
        num_items: I, spread evenly over the genres.
        interactions_per_user: the mean; each user has between half and one and a half times as many.
        genres: the number of genres, at most 12.
        tastes: the number of genres that each user likes.
        popularity: exponent of the power law within a genre; with 0 all items of a genre are equally popular.
        noise: fraction of interactions that ignore the user's taste, above 0 and at most 1.
        seed: random seed.

    Raises:
        ArgumentError: an invalid size or fraction, or sizes that contradict each other.
    """
    if not 1 <= tastes <= genres <= min(len(GENRES), num_items):
        raise ArgumentError(
            f"expected 1 <= tastes <= genres <= {min(len(GENRES), num_items)}, got tastes {tastes} and genres {genres}"
        )
    if num_users < 1 or not 2 <= interactions_per_user <= num_items // 2:
        raise ArgumentError(
            f"expected num_users >= 1 and 2 <= interactions_per_user <= num_items / 2 = {num_items // 2}, "
            f"got {num_users} and {interactions_per_user}"
        )
    if not 0 < noise <= 1:
        raise ArgumentError(f"noise: expected a number above 0 and at most 1, got {noise}")
    rng = np.random.default_rng(seed)

    genre_of = np.arange(num_items) % genres  # [I]
    place = np.arange(num_items) // genres  # [I]: n, the place within the genre
    weight = (place + 1.0) ** -popularity
    within_genre = weight / np.bincount(genre_of, weight)[genre_of]  # [I]: pi

    liked = np.argsort(rng.random((num_users, genres)), axis=1)[:, :tastes]  # [U, tastes]
    theta = np.zeros((num_users, genres))
    np.put_along_axis(theta, liked, rng.dirichlet(np.ones(tastes), num_users), axis=1)
    probability = (1 - noise) * theta[:, genre_of] * within_genre + noise / num_items  # [U, I]

    # Gumbel top-k trick: the largest values of log p + Gumbel noise are a weighted sample without replacement.
    order = np.argsort(-(np.log(probability) + rng.gumbel(size=probability.shape)), axis=1)  # [U, I]
    half = interactions_per_user // 2
    counts = rng.integers(interactions_per_user - half, interactions_per_user + half + 1, num_users)
    users = np.repeat(np.arange(num_users), counts)
    items = order[np.arange(num_items) < counts[:, None]]
    start, year = 1_600_000_000, 365 * 24 * 3600  # seconds
    dataset = Dataset(
        users, items, start + rng.integers(0, year, users.size), np.arange(num_users), np.arange(num_items)
    )

    ordered = np.take_along_axis(liked, np.argsort(-np.take_along_axis(theta, liked, 1), axis=1), 1)
    user_titles = [f"{' and '.join(GENRES[g] for g in row)} fan {user}" for user, row in enumerate(ordered)]
    item_titles = [f"{GENRES[g]} {n + 1}" for g, n in zip(genre_of, place, strict=True)]
    return PlantedTaste(dataset, user_titles, item_titles)
