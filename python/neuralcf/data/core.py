"""The k-core: the interactions in which every user and every item has enough of the others."""

from __future__ import annotations

import numpy as np

from neuralcf.data.dataset import Dataset, compacted
from neuralcf.errors import ArgumentError, argument

__all__ = ["core"]


def core(dataset: Dataset, min_user: int = 1, min_item: int = 1) -> Dataset:
    """Leave out users with few items and items with few users, in turns until all have enough.

    The result is the largest part of the data in which they do, whatever the order (Batagelj and Zaversnik, "An O(m)
    algorithm for cores decomposition of networks", 2003, section 1).

    Args:
        dataset: the interactions, each pair once.
        min_user: the fewest items of a user.
        min_item: the fewest users of an item.

    Returns:
        The interactions that are left, with the users and items that are left, in their order; without features.

    Raises:
        ArgumentError: a number below 1; nothing is left.
    """
    for name, least in (("min_user", min_user), ("min_item", min_item)):
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise ArgumentError(f"{argument(name)}: expected an integer of at least 1, got {least!r}")
    kept = np.ones(len(dataset), dtype=np.bool_)
    while True:
        enough = kept.copy()
        for indices, size, least in (
            (dataset.users, dataset.num_users, min_user),
            (dataset.items, dataset.num_items, min_item),
        ):
            enough &= (np.bincount(indices[enough], minlength=size) >= least)[indices]
        if (enough == kept).all():
            break
        kept = enough
    if not kept.any():
        raise ArgumentError(
            f"{argument('min_user')}, {argument('min_item')}: expected interactions in which each user has {min_user} "
            f"items and each item {min_item} users, got none"
        )
    return compacted(dataset.take(kept))
