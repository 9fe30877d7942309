"""What files and arguments may take of the memory is known, and refused, before anything is built."""

import json
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from neuralcf import ModelFormatError, Recommender, Scorer, save
from reference import Shape, metadata_of, random_tensors, safetensors

LIMITS = 8
"""Address-space limits tried with each model."""


def peak() -> int:
    """The largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def taking_at_most(limit: int) -> Iterator[None]:
    """Check that a block takes at most `limit` bytes in addition to what the process has."""
    if sys.platform != "linux":
        yield
        return

    def status(name: str) -> int:
        return 1024 * int(re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])

    Path("/proc/self/clear_refs").write_text("5")  # starts the peak again
    before = status("VmRSS")
    yield
    taken = status("VmHWM") - before
    assert taken <= limit, f"{taken / 2**20:.1f} MiB taken, at most {limit / 2**20:.1f} expected"


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def wide(items: int, units: int) -> bytes:
    """A model of some bytes that takes items x units once it is laid out."""
    shapes = {
        "mlp.user_embedding.weight": [1, 1],
        "mlp.item_embedding.weight": [items, 1],
        "mlp.layers.0.weight": [units, 2],
        "mlp.layers.0.bias": [units],
        "output.weight": [1, units],
        "output.bias": [1],
    }
    metadata = {"format": "neuralcf", "format_version": "1", "kind": "mlp", "activation": "relu"}
    entries, end = {"__metadata__": metadata}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return header(json.dumps(entries).encode()) + bytes(end)


@pytest.mark.parametrize(("items", "units", "kib"), [(25_000, 6_250, 98), (250_000, 62_500, 977)])
def test_a_small_file_of_a_large_model_is_refused_with_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int, units: int, kib: int
) -> None:
    file = tmp_path / "wide.safetensors"
    file.write_bytes(wide(items, units))
    assert file.stat().st_size // 1024 == kib
    with taking_at_most(8 << 20):
        with pytest.raises(MemoryError, match=r"takes \d+ bytes, but 100000000 max_bytes allows") as caught:
            Scorer.load(file, max_bytes=10**8)
        monkeypatch.setenv("NEURALCF_MAX_BYTES", "200000000")
        with pytest.raises(MemoryError, match=r"but 200000000 max_bytes allows"):
            Scorer.load(file)
        monkeypatch.delenv("NEURALCF_MAX_BYTES")
        takes = int(re.search(r"takes (\d+)", str(caught.value))[1])
        assert 2 <= takes / (4 * items * units) <= 3  # rows and tiles
        if takes > 10**11:
            with pytest.raises(MemoryError, match=r"takes \d+ bytes, but \d+ are free"):
                Scorer.load(file)


def test_what_a_model_takes_is_not_underestimated() -> None:
    for shape in (
        Shape(500, 3000, g=9),
        Shape(700, 900, g=3, mlp=(5, 40), layers=(70, 20)),
        Shape(9, 9, mlp=(1, 1), layers=(300, 200)),
    ):
        tensors = random_tensors(shape)
        taken = sum(Scorer.from_tensors(tensors).nbytes.values())
        with pytest.raises(MemoryError):
            Scorer.from_tensors(tensors, max_bytes=taken - 1)
        Scorer.from_tensors(tensors, max_bytes=6 * taken + (1 << 20))


MANY = 4 << 20
"""Bytes of a header or config.json, the most that is read."""
MANY_VALUES = {
    "integers": (b'{"a":[', b"1,", b"1]}", "expected an object, got a list"),
    "objects": (b'{"a":[', b"{},", b"{}]}", "expected an object, got a list"),
    "a long shape": (b'{"a":{"shape":[', b"1,", b"1]}}", "shape must be a list of sizes, at most 8"),
    "keys": (b'{"__metadata__":{', b'"%x":"",', b'"":""}}', '"format" is missing'),
    "values": (b'{"__metadata__":{', b'"%x":"\\n",', b'"":""}}', '"format" is missing'),
    "nested keys": (b'{"a":[{"b":{', b'"%x":0,', b'"":0}}]}', "expected an object, got a list"),
}


@pytest.mark.parametrize(("start", "part", "end", "message"), MANY_VALUES.values(), ids=MANY_VALUES)
def test_json_of_many_small_values_takes_little(
    tmp_path: Path, start: bytes, part: bytes, end: bytes, message: str
) -> None:
    parts = [part % n if b"%" in part else part for n in range(MANY // len(part))]
    text = start + b"".join(parts)[: MANY - len(start) - len(end) - 32].rpartition(b",")[0] + b"," + end
    file = tmp_path / "many.safetensors"
    file.write_bytes(header(text))
    del parts, text
    with taking_at_most(8 * MANY):
        started = time.perf_counter()
        with pytest.raises(ModelFormatError, match=re.escape(message)):
            Scorer.load(file)
        print(f"{time.perf_counter() - started:.3f} s")


def test_values_that_are_not_read_may_be_many_but_not_twice(tmp_path: Path) -> None:
    save(random_tensors(Shape(2, 3, g=1)), tmp_path / "model", kind="gmf", config={"metrics": [1] * 300_000})
    Scorer.load(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    kept = {key: value for key, value in json.loads(config.read_text()).items() if key not in ("files", "sha256")}
    kept["training"] = {"a": {"b": 1, "c": 2}}
    text = json.dumps(kept)
    config.write_text(text)
    Scorer.load(tmp_path / "model")
    config.write_text(text.replace('"c"', '"b"'))
    with pytest.raises(ModelFormatError, match='duplicate key "b"'):
        Scorer.load(tmp_path / "model")


def test_a_result_larger_than_the_free_memory_is_refused_at_once() -> None:
    scorer, before = Scorer.from_tensors(random_tensors(Shape(2, 50, g=2))), peak()
    with pytest.raises(MemoryError, match=r"top-k result: takes 12000000000000 bytes, but \d+ are free"):
        scorer.top_k(0, k=10**12)
    assert peak() - before < 64 << 20
    assert (scorer.top_k(0, k=1000).ids >= 0).sum() == 50


@pytest.mark.parametrize("kind", ["int", "str"])
def test_lists_of_a_recommender_take_what_was_checked(tmp_path: Path, kind: str) -> None:
    users, items = (["a", "b", "c", "d"], [f"i{n}" for n in range(50)]) if kind == "str" else (range(4), range(50))
    tensors = random_tensors(Shape(4, 50, g=8))
    seen = (np.arange(5), np.arange(4))
    save(tensors, tmp_path / "model", kind="gmf", ids=(list(users), list(items)), seen=seen)
    model = Recommender.load(tmp_path / "model")
    k = 500_000
    for ask in (
        lambda k: model.recommend(users, k, min_score=0.1),
        lambda k: model.recommend([*users[:3], "unknown" if kind == "str" else 99], k, on_unknown="popular"),
        lambda k: model.recommend_for_history([items[:3]] * 4, k, min_score=0.1),
        lambda k: model.similar_items(items[:4], k),
        lambda k: model.similar_users(users, k),
    ):
        ask(1)
        with pytest.raises(MemoryError, match=r"^recommendations: takes \d+ bytes, but \d+ are free$") as refusal:
            ask(10**6 * k)
        said = int(re.search(r"\d+", str(refusal.value))[0]) // 10**6
        with taking_at_most(said + (4 << 20)):
            ask(k)


def load_under_limits(path: Path) -> None:
    """Load a model under falling limits of the address space, each in a fork; print how often each outcome was seen."""
    import os

    outcomes = Counter[str]()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for n in range(LIMITS):
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_AS, (used + ((4 << 20) << n), resource.RLIM_INFINITY))
            try:
                Scorer.load(path, threads=1, isa="portable").top_k(0, 5)
            except MemoryError:
                os._exit(1)
            except BaseException:
                os._exit(2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        outcomes[
            f"signal {os.WTERMSIG(status)}"
            if os.WIFSIGNALED(status)
            else ["loaded", "MemoryError", "other"][os.WEXITSTATUS(status)]
        ] += 1
    print(json.dumps(outcomes))


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux only")
def test_a_lack_of_memory_is_an_error_never_an_abort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wide.safetensors").write_bytes(wide(500, 20_000))
    tensors = random_tensors(Shape(1, 1100, mlp=(400, 400), layers=(1500, 400)))
    (tmp_path / "deep.safetensors").write_bytes(safetensors(tensors, metadata_of(tensors)))
    long = header(b'{"__metadata__":{' + b",".join(b'"%x":""' % n for n in range(300_000)) + b"}}")
    (tmp_path / "long.safetensors").write_bytes(long)
    ids = (list(range(20_000)), [f"item {n}" for n in range(100_000)])
    save(random_tensors(Shape(20_000, 100_000, g=1)), tmp_path / "ids", kind="gmf", ids=ids)
    total = Counter[str]()
    for name in ("wide.safetensors", "deep.safetensors", "long.safetensors", "ids"):
        program = [sys.executable, __file__, str(tmp_path / name)]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        total += Counter(json.loads(done.stdout))
    with capsys.disabled():
        print(f" {dict(total)}", end="")
    assert not [outcome for outcome in total if outcome.startswith("signal")]
    assert total["MemoryError"] >= LIMITS
    assert total["loaded"] > 0


if __name__ == "__main__":
    load_under_limits(Path(sys.argv[1]))
