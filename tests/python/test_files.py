"""Atomic writes: a file is replaced as a whole, or the old one stays."""

import os
import stat
from pathlib import Path

import pytest

from conftest import files_of_at_most
from neuralcf.files import write_atomically


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
