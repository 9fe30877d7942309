"""Micro-batching: the one thread that calls the engine, where requests that wait share a call.

Nothing waits for company: a request that finds the engine free is computed at once, alone. What arrives meanwhile
waits for that call to end, and then goes together.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, NamedTuple

from neuralcf._core import StopToken
from neuralcf.errors import StoppedError
from neuralcf.serving.http.endpoint import Call
from neuralcf.serving.http.metrics import Metrics
from neuralcf.serving.http.refusals import refusal_of
from neuralcf.serving.recommender import Recommender
from neuralcf.serving.requests import RecommendRequest, recommend_requests

__all__ = ["Answer", "Ask", "EngineThread"]

_WATCH_AFTER: Final = 0.02
"""Seconds that an answer may take before it is watched whether the client is still there."""

Query = Callable[[Recommender], Any]


class Answer(NamedTuple):
    """The result of a query, and the generation that gave it."""

    value: Any
    recommender: Recommender


Ask = Callable[[RecommendRequest | Query, Call], Awaitable[Answer]]
"""Answers a query for a call."""


class _Job:
    """A query that waits or is computed."""

    __slots__ = ("deadline", "future", "gone", "query", "since", "watch")

    def __init__(self, query: RecommendRequest | Query, deadline: float, future: asyncio.Future[Answer]) -> None:
        self.query = query
        self.deadline = deadline
        self.future = future
        self.since = monotonic()
        self.gone = False
        self.watch: asyncio.Task[None] | None = None


class EngineThread:
    """Calls the engine, one call at a time; its thread starts with the first query, in the process that asks it."""

    def __init__(
        self, snapshot: Callable[[], Recommender], shares_calls: Callable[[], bool], metrics: Metrics, *, most: int
    ) -> None:
        """Make a thread.

        Args:
            snapshot: returns the generation to answer with; asked once for each call of the engine.
            shares_calls: returns whether requests that wait share a call.
            metrics: what to count in.
            most: how many requests may share a call.
        """
        self._snapshot = snapshot
        self._shares_calls = shares_calls
        self._metrics = metrics
        self._most = most
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._running: tuple[StopToken, list[_Job]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self.seconds_per_call = 0.0
        """A moving average of the engine's time for a call."""

    async def ask(self, query: RecommendRequest | Query, call: Call) -> Answer:
        """Answer a query; a `RecommendRequest` may share a call.

        Args:
            query: what to compute.
            call: whose deadline, and whose client's disconnection, end the query.

        Raises:
            StoppedError: the deadline passed, or the client left.
            Exception: what the query raises.
        """
        loop = asyncio.get_running_loop()
        job = _Job(query, call.deadline, loop.create_future())
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="neuralcf-engine", daemon=True)
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()
        timer = loop.call_later(_WATCH_AFTER, self._start_watch, job, call.receive)
        try:
            return await job.future
        finally:
            timer.cancel()
            if job.watch is not None:
                job.watch.cancel()
                job.watch = None  # which holds the job when it has ended
            del job  # an exception holds this frame, and the job holds the exception

    def expected_wait(self, in_flight: int) -> float:
        """Return how many seconds a request would wait behind so many others: for their calls of the engine."""
        calls = in_flight // self._most + 1 if self._shares_calls() else in_flight
        return calls * self.seconds_per_call

    def close(self) -> None:
        """End the thread once what waits is answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _start_watch(self, job: _Job, receive: Callable[[], Any]) -> None:
        job.watch = asyncio.get_running_loop().create_task(self._watch(job, receive))

    async def _watch(self, job: _Job, receive: Callable[[], Any]) -> None:
        """Stop a job whose client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        job.gone = True
        running = self._running
        if running is not None and all(one.gone for one in running[1]):
            running[0].stop()

    def _work(self) -> None:
        while jobs := self._next():
            self._compute(jobs)
            del jobs  # whose answers hold the model that gave them

    def _next(self) -> list[_Job]:
        """Wait for work; return the jobs of one call, none to end."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            first = self._waiting.popleft()
            jobs = [first]
            if isinstance(first.query, RecommendRequest) and self._shares_calls():
                group = first.query.group
                others: list[_Job] = []
                for job in self._waiting:
                    fits = isinstance(job.query, RecommendRequest) and job.query.group == group
                    (jobs if fits and len(jobs) < self._most else others).append(job)
                self._waiting = deque(others)
            return jobs

    def _compute(self, jobs: list[_Job]) -> None:
        started, recommender = monotonic(), self._snapshot()
        live: list[_Job] = []
        late: list[_Job] = []
        for job in jobs:
            (late if job.gone or job.deadline <= started else live).append(job)
            self._metrics.queue_wait.observe(started - job.since)
        answers: list[Any] = [StoppedError("the deadline passed before the engine was free")] * len(late)
        if live:
            answers += self._call(recommender, live, max(job.deadline for job in live) - started)
            seconds = monotonic() - started
            self.seconds_per_call += 0.1 * (seconds - self.seconds_per_call)
            self._metrics.compute.observe(seconds)
            self._metrics.batch.observe(len(live))
        for loop in {job.future.get_loop() for job in jobs}:  # one, unless a test has several
            pairs = [
                (job, answer) for job, answer in zip(late + live, answers, strict=True) if job.future.get_loop() is loop
            ]
            loop.call_soon_threadsafe(_deliver, pairs, recommender)

    def _call(self, recommender: Recommender, jobs: list[_Job], seconds: float) -> list[Any]:
        """Return the answer of each job, or its exception."""
        token = StopToken(seconds)
        self._running = token, jobs
        try:
            with token:
                query = jobs[0].query
                if isinstance(query, RecommendRequest):
                    return list(recommend_requests(recommender, [job.query for job in jobs]))  # type: ignore[misc]
                return [query(recommender)]
        except Exception as error:
            if refusal_of(error) is not None:
                error.with_traceback(None)  # which holds the model, and the jobs, which get the error
            return [error] * len(jobs)
        finally:
            self._running = None


def _deliver(pairs: list[tuple[_Job, Any]], recommender: Recommender) -> None:
    """Hand the answers over, on the event loop."""
    for job, answer in pairs:
        if job.future.done():
            continue
        if isinstance(answer, Exception):
            job.future.set_exception(answer)
        else:
            job.future.set_result(Answer(answer, recommender))
