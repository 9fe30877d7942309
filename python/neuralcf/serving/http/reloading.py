"""Hot swap: a new model is loaded and checked beside the old one, then exchanged; a bad one is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from neuralcf.errors import NeuralCFError
from neuralcf.serving.http.memory import give_back_free_memory
from neuralcf.serving.http.metrics import Metrics
from neuralcf.serving.http.model import ServedModel, model_id
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.watcher import Changes

__all__ = ["Reloader", "watch"]

_LOG: Final = logging.getLogger("neuralcf.serving")
_CALLS_END: Final = 1.0
"""Seconds after which hardly a call of the engine uses an old model any more."""


class Reloader:
    """Reloads the model of a service, one reload at a time, and tells the log and the metrics."""

    def __init__(self, model: ServedModel, metrics: Metrics) -> None:
        self._model = model
        self._metrics = metrics
        # One thread for all loads: several would each keep the memory that the models they loaded have given back.
        self._thread = ThreadPoolExecutor(1, "neuralcf-reload")

    async def reload(self, why: str) -> bool:
        """Exchange the model for the one that its directory holds now.

        Returns:
            Whether it is another model.

        Raises:
            RefusedError: 409; it cannot be loaded, contradicts itself, or lacks what the old one has. The old one
                stays.
        """
        reloads, model, loop = self._metrics.reloads, self._model, asyncio.get_running_loop()
        try:
            changed = await loop.run_in_executor(self._thread, model.reload)
        except (NeuralCFError, OSError, MemoryError, ImportError) as error:
            reloads.labels("refused").inc()
            _LOG.error("model refused", extra={"why": why, "reason": str(error)})
            raise RefusedError(409, "model_refused", f"the new model is refused, the old one stays: {error}") from None
        finally:
            loop.call_later(_CALLS_END, self._thread.submit, give_back_free_memory)
        reloads.labels("loaded" if changed else "unchanged").inc()
        if changed:
            now = model.snapshot()
            _LOG.info("model loaded", extra={"why": why, "model_id": model_id(now), "generation": now.generation})
        return changed


async def watch(changes: Changes, reloader: Reloader, seconds: float) -> None:
    """Reload whenever the files of the model have changed; look every `seconds`."""
    while True:
        await asyncio.sleep(seconds)
        if changes.settled():
            with contextlib.suppress(RefusedError):  # logged; the next change is another try
                await reloader.reload("file change")
