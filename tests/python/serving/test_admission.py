"""Who is let in, in a simulation: one engine, requests that come at random, and a clock that we turn."""

import random

import numpy as np
import pytest
from served import saved  # noqa: F401  # skips these tests without the extra `serve`

from neuralcf.serving.http.admission import Admission
from neuralcf.serving.http.refusals import RefusedError


class Simulation:
    """An engine that takes `alone` seconds for a call, and `more` for each further request that shares it."""

    def __init__(self, alone, more, shared):
        self.now, self.alone, self.more, self.shared = 0.0, alone, more, shared
        self.seconds_per_call = 0.0
        self.admission = Admission(
            lambda others: (others // shared + 1 if shared > 1 else others) * self.seconds_per_call,
            lambda: self.seconds_per_call,
            most=64,
            max_wait=0.1,
            clock=lambda: self.now,
        )

    @property
    def capacity(self):
        return self.shared / 2 / (self.alone + (self.shared / 2 - 1) * self.more)

    def run(self, arrivals):
        """Return the seconds that each accepted request took, and how many were refused."""
        arrivals, waiting, running, took, refused = [*reversed(arrivals)], [], [], [], 0
        done = 0.0
        while arrivals or waiting or running:
            if not running and waiting:
                running, waiting = waiting[: self.shared], waiting[self.shared :]
                seconds = self.alone + (len(running) - 1) * self.more
                done = self.now + seconds
                self.seconds_per_call += 0.1 * (seconds - self.seconds_per_call)
            if arrivals and (not running or arrivals[-1] <= done):
                self.now = arrivals.pop()
                try:
                    self.admission.enter()
                    waiting.append(self.now)
                except RefusedError:
                    refused += 1
            else:
                self.now = done
                took += [self.now - since for since in running]
                for _ in running:
                    self.admission.leave()
                running = []
        return np.array(took), refused


def at_random(rate, seconds):
    """Return times at which requests come, independently of each other."""
    draw, now, times = random.Random(0), 0.0, []
    while now < seconds:
        now += draw.expovariate(rate)
        times.append(now)
    return times


@pytest.mark.parametrize(
    ("alone", "more", "shared"),
    [(0.0003, 0.0003, 1), (0.001, 0.001, 1), (0.01, 0.01, 1), (0.002, 0.0002, 64), (0.02, 0.002, 64)],
)
def test_twice_the_capacity_makes_nobody_wait_twice_as_long(alone, more, shared):
    p99, answered = {}, {}
    for share in (1, 2):
        simulation = Simulation(alone, more, shared)
        took, refused = simulation.run(at_random(share * simulation.capacity, 8000 / simulation.capacity))
        p99[share], answered[share] = np.percentile(took, 99), len(took)
        assert refused > 0 or share == 1
    assert p99[2] < 2 * p99[1]
    assert answered[2] > 0.9 * answered[1]


def test_a_burst_waits_and_is_answered():
    simulation = Simulation(0.001, 0.001, 1)
    simulation.run([0.0] * 4)
    took, refused = simulation.run([1.0] * 50)
    assert refused == 0
    assert took.max() < 0.1
