"""Micro-batching: requests that wait for the engine share a call.

Nothing waits for company: a request that finds the engine free is computed at once, alone. What arrives meanwhile
waits for that call to end, and then goes together. Calls are made by one thread, beside the event loop. Only requests
that take less than the way to that thread and back is worth are computed on the event loop itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, NamedTuple

from neuralcf._core import StopToken
from neuralcf.errors import StoppedError
from neuralcf.serving.http.endpoint import Call
from neuralcf.serving.http.metrics import Metrics
from neuralcf.serving.http.model import Cost
from neuralcf.serving.http.refusals import refusal_of
from neuralcf.serving.recommender import Recommender
from neuralcf.serving.requests import RecommendRequest, recommend_requests

__all__ = ["Answer", "Ask", "Batcher"]

_SHORT: Final = 5e-4
"""Seconds of the engine's time up to which a request is computed on the event loop. Requests that share a call there
may together take twice as long: no other request waits longer for the loop."""
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


class Batcher:
    """Calls the engine, one call at a time on a thread, which starts with the first query that needs it."""

    def __init__(
        self, snapshot: Callable[[], Recommender], cost: Callable[[], Cost], metrics: Metrics, *, most: int
    ) -> None:
        """Make one.

        Args:
            snapshot: returns the generation to answer with; asked once for each call of the engine.
            cost: returns what calls of the engine take.
            metrics: what to count in.
            most: how many requests may share a call.
        """
        self._snapshot = snapshot
        self._cost = cost
        self._metrics = metrics
        self._most = most
        self._waiting: list[_Job] = []
        """For the thread."""
        self._short: list[_Job] = []
        """For the event loop."""
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
        try:
            if self._is_short(query):
                self._short.append(job)
                loop.call_soon(self._compute_short)  # after what has arrived by now, which shares the call
                return await job.future
            return await self._ask_thread(job, call, loop)
        finally:
            del job  # an exception holds this frame, and the job holds the exception

    def _is_short(self, query: RecommendRequest | Query) -> bool:
        return (
            isinstance(query, RecommendRequest)
            and query.histories is None
            and query.max_per_group is None
            and len(query.users) * self._cost().seconds_per_user <= _SHORT
        )

    def _compute_short(self) -> None:
        """Compute a call on the event loop, unless another job's turn has done so for all."""
        if self._short:
            most = int(2 * _SHORT / max(self._cost().seconds_per_user, 1e-6))
            jobs, self._short = self._share(self._short, min(most, self._most))
            _deliver(self._compute(jobs, watched=False))

    async def _ask_thread(self, job: _Job, call: Call, loop: asyncio.AbstractEventLoop) -> Answer:
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
            del job

    def expected_wait(self, in_flight: int) -> float:
        """Return how many seconds a request would wait behind so many others: for their calls of the engine."""
        calls = in_flight // self._most + 1 if self._cost().shares_calls else in_flight
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
            answers = self._compute(jobs, watched=True)
            for loop in {job.future.get_loop() for job in jobs}:  # one, unless a test has several
                of_loop = [(job, answer) for job, answer in answers if job.future.get_loop() is loop]
                loop.call_soon_threadsafe(_deliver, of_loop)
                del of_loop
            del jobs, answers  # which hold the model that gave them

    def _next(self) -> list[_Job]:
        """Wait for work; return the jobs of one call, none to end."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            jobs, self._waiting = self._share(self._waiting, self._most)
            return jobs

    def _share(self, waiting: list[_Job], most: int) -> tuple[list[_Job], list[_Job]]:
        """Return the jobs that share the next call, and the others."""
        first = waiting[0].query
        if len(waiting) == 1 or not isinstance(first, RecommendRequest) or not self._cost().shares_calls:
            return waiting[:1], waiting[1:]
        jobs: list[_Job] = []
        others: list[_Job] = []
        for job in waiting:
            fits = isinstance(job.query, RecommendRequest) and job.query.group == first.group
            (jobs if fits and len(jobs) < most else others).append(job)
        return jobs, others

    def _compute(self, jobs: list[_Job], *, watched: bool) -> list[tuple[_Job, Answer | Exception]]:
        """Return the answer of each job, or its exception."""
        started, recommender = monotonic(), self._snapshot()
        live: list[_Job] = []
        answers: list[tuple[_Job, Answer | Exception]] = []
        for job in jobs:
            self._metrics.queue_wait.observe(started - job.since)
            if job.gone or job.deadline <= started:
                answers.append((job, StoppedError("the deadline passed before the engine was free")))
            else:
                live.append(job)
        if live:
            token = StopToken(max(job.deadline for job in live) - started)
            if watched:
                self._running = token, live
            answers += zip(live, _answers(recommender, live, token), strict=True)
            if watched:
                self._running = None
            seconds = monotonic() - started
            self.seconds_per_call += 0.1 * (seconds - self.seconds_per_call)
            self._metrics.compute.observe(seconds)
            self._metrics.batch.observe(len(live))
        return answers


def _answers(recommender: Recommender, jobs: list[_Job], token: StopToken) -> list[Answer | Exception]:
    """Return the answer of each of the jobs that share a call, or its exception."""
    try:
        with token:
            query = jobs[0].query
            if isinstance(query, RecommendRequest):
                found = recommend_requests(recommender, [job.query for job in jobs])  # type: ignore[misc]
            else:
                found = [query(recommender)]
    except Exception as error:
        if refusal_of(error) is not None:
            error.with_traceback(None)  # which holds the model, and the jobs, which get the error
        return [error] * len(jobs)
    return [one if isinstance(one, Exception) else Answer(one, recommender) for one in found]


def _deliver(answers: list[tuple[_Job, Answer | Exception]]) -> None:
    """Hand the answers over, on the event loop."""
    for job, answer in answers:
        if job.future.done():
            continue
        if isinstance(answer, Exception):
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)
