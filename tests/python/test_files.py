"""Atomic writes: a file is replaced as a whole, or the old one stays."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import neuralcf
from conftest import files_of_at_most
from neuralcf.files import staged, write_atomically
from reference import Shape, random_tensors

TENSORS = random_tensors(Shape(3, 4, g=2))


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    for content in (b"one", b"", b"three"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    with files_of_at_most(1000), pytest.raises(OSError, match=r"numbers\.json'$"):
        write_atomically(path, bytes(2000))
    assert path.read_bytes() == b"three"
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_followed_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("file")
    write_atomically(link, b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert link.is_symlink()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(tmp_path / "pipe", b"content")
        assert os.read(reader, 99) == b"content"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def left_over(place: Path) -> set[str]:
    return {path.name for path in place.iterdir() if path.suffix == ".part"}


def test_two_writers_of_one_path_do_not_share_what_they_stage(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    with staged(target) as first:
        first.write_bytes(b"half of the first")
        write_atomically(target, b"the second")
        first.write_bytes(b"the first, whole")
        assert target.read_bytes() == b"the second"
        first.replace(target)
    assert target.read_bytes() == b"the first, whole"
    assert left_over(tmp_path) == set()


KILLED = """
import sys, time
from pathlib import Path
from neuralcf.files import staged
with staged(Path(sys.argv[1]), directory=sys.argv[2] == "directory") as part:
    if part.is_dir():
        (part / "model.safetensors").write_text("half a model")
    print(part, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_kill_left_is_removed_but_not_what_a_living_writer_stages(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "model.safetensors"
    command = [sys.executable, "-c", KILLED, str(target), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        part = Path(writer.stdout.readline().strip())
        neuralcf.save(TENSORS, target, kind="gmf")
        assert left_over(tmp_path) == {part.name}
        writer.send_signal(signal.SIGKILL)
    foreign = part.with_name(part.name.replace(part.name.split(".")[-2][:8], "00000000"))
    other = tmp_path / ".other.part"
    foreign.touch()
    other.touch()
    write_atomically(tmp_path / "model", b"")  # another target
    assert left_over(tmp_path) == {part.name, foreign.name, other.name}
    neuralcf.save(TENSORS, target, kind="gmf")
    assert left_over(tmp_path) == {foreign.name, other.name}
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(foreign, (two_days_ago, two_days_ago))
    neuralcf.save(TENSORS, target, kind="gmf")
    assert left_over(tmp_path) == {other.name}


def test_an_error_after_publication_says_that_the_new_content_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def failing(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    message = r"published; not yet durable: cannot sync .*: Input/output error"
    with pytest.raises(neuralcf.PublishedError, match=message) as caught:
        write_atomically(tmp_path / "numbers.json", b"new")
    assert caught.value.errno == 5
    assert (tmp_path / "numbers.json").read_bytes() == b"new"
    with pytest.raises(neuralcf.PublishedError, match=message):
        neuralcf.save(TENSORS, tmp_path / "one.safetensors", kind="gmf")
    neuralcf.Scorer.load(tmp_path / "one.safetensors")
    assert left_over(tmp_path) == set()
