"""StopToken: ends the long calls of a thread, from another one or after a time, and nothing else."""

import threading
import time

import numpy as np
import pytest

from neuralcf import ArgumentError, StoppedError, StopToken

USERS = np.zeros(4096, np.int64)  # a second or more of work


def test_a_call_stops_after_its_time(large):
    start = time.monotonic()
    with pytest.raises(StoppedError, match="StopToken"), StopToken(0.05) as token:
        large.top_k(USERS)
    assert token.stopped
    assert time.monotonic() - start < 5  # the whole call takes many times as long on any machine
    assert large.top_k(0, 3).ids.shape == (3,)  # outside the token, nothing stops


def test_another_thread_stops_a_call(large):
    token = StopToken()
    threading.Timer(0.05, token.stop).start()
    with pytest.raises(StoppedError), token:
        large.top_k(USERS)


def test_a_stopped_token_refuses_calls_at_once(large, small):
    token = StopToken()
    token.stop()
    with token:
        with pytest.raises(StoppedError):
            large.top_k([0])
        assert small.score_batch([0], [0]).shape == (1,)  # too small to stop


def test_tokens_count_for_their_thread_alone_and_nest(large):
    with StopToken(0):
        with StopToken():
            large.top_k([0])
        done = []
        thread = threading.Thread(target=lambda: done.append(large.top_k([0])))
        thread.start()
        thread.join()
        assert len(done) == 1
        with pytest.raises(StoppedError):
            large.top_k([0])


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, None])
def test_tokens_that_never_stop(small, seconds):
    with StopToken(seconds) as token:
        assert not token.stopped
        small.top_k([0, 1])


def test_bad_times():
    with pytest.raises(ArgumentError, match="seconds"):
        StopToken(float("nan"))
    with pytest.raises(TypeError):
        StopToken("soon")
    assert StopToken(-1).stopped
