"""Hot swap: a new model is loaded and checked beside the old one, then exchanged; a bad one is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from neuralcf.errors import ModelFormatError, NeuralCFError
from neuralcf.serving.http.metrics import Metrics
from neuralcf.serving.http.model import ServedModel
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.recommender import Recommender
from neuralcf.serving.watcher import Changes

__all__ = ["Loaded", "Reloader", "watch"]

_LOG: Final = logging.getLogger("neuralcf.serving")

Titles: TypeAlias = Mapping[int | str, str] | None
"""Titles of items by id, if there are any."""
Loaded: TypeAlias = tuple[Recommender, Titles]
"""A model and the titles of its items."""


class Reloader:
    """Exchanges the model of a service for the one that `load` returns; one reload at a time."""

    def __init__(
        self,
        load: Callable[[], Loaded],
        served: Callable[[], ServedModel],
        exchange: Callable[[ServedModel, Titles], None],
        metrics: Metrics,
    ) -> None:
        """Make a reloader.

        Args:
            load: loads the model and its titles.
            served: returns the model being served.
            exchange: takes the new one in its place.
            metrics: what to count in.
        """
        self._load = load
        self._served = served
        self._exchange = exchange
        self._metrics = metrics
        self._turn = asyncio.Lock()
        # One thread for all loads: several would each keep the memory that the models they loaded have given back.
        self._thread = ThreadPoolExecutor(1, "neuralcf-reload")

    async def reload(self, why: str) -> bool:
        """Load the model and exchange it, if it is another one.

        Returns:
            Whether it was exchanged.

        Raises:
            RefusedError: 409; it cannot be loaded, contradicts itself, or has ids of another type. The old one stays.
        """
        reloads = self._metrics.reloads
        async with self._turn:
            try:
                new = await asyncio.get_running_loop().run_in_executor(self._thread, self._prepare)
            except (NeuralCFError, OSError, MemoryError, ImportError) as error:
                reloads.labels("refused").inc()
                _LOG.error("model refused", extra={"why": why, "reason": str(error)})
                raise RefusedError(
                    409, "model_refused", f"the new model is refused, the old one stays: {error}"
                ) from None
            if new is None:
                reloads.labels("unchanged").inc()
                return False
            self._exchange(*new)
            reloads.labels("loaded").inc()
            _LOG.info("model loaded", extra={"why": why, "model_id": new[0].id, "generation": new[0].generation})
            return True

    def _prepare(self) -> tuple[ServedModel, Titles] | None:
        old = self._served()
        recommender, titles = self._load()
        if recommender.scorer.metadata.get("model_id", "") == old.id != "":
            return None
        for what in ("user_ids", "item_ids"):
            before, now = (getattr(one, what).kind for one in (old.recommender, recommender))
            if before != now:
                raise ModelFormatError(f"{what}: expected {before}, as in the model being served, got {now}")
        return ServedModel.of(recommender, old.generation + 1), titles


async def watch(changes: Changes, reloader: Reloader, seconds: float) -> None:
    """Reload whenever the files of the model have changed; look every `seconds`."""
    while True:
        await asyncio.sleep(seconds)
        if changes.settled():
            with contextlib.suppress(RefusedError):  # logged; the next change is another try
                await reloader.reload("file change")
