"""Opening text files: every reader of text accepts and rejects the same files, with the same messages."""

import gzip

import pytest

from neuralcf import ArgumentError
from neuralcf.data import read_interactions, read_ncf
from neuralcf.data.readers.titles import read_titles

PAIRS = "user\titem\n1\t2\n"
NEGATIVE = "(0,3)\t4\t5\n(1,2)\t3\t4\n"


def interactions(path):
    return len(read_interactions(path)[0])


def titles(path):
    return read_titles(path, ["1"], id_column=0, title_column=1)


def candidates(path):
    """Read the candidates file of the NCF paper's three files."""
    for part, text in {"train.rating": "0\t1\n0\t2\n1\t1\n", "test.rating": "0\t3\n1\t2\n"}.items():
        path.with_name(f"X.{part}").write_text(text)
    path.rename(path.with_name("X.test.negative"))
    return read_ncf(path.with_name("X")).candidates[0].tolist()


READERS = {"interactions": (interactions, PAIRS), "titles": (titles, PAIRS), "candidates": (candidates, NEGATIVE)}


@pytest.mark.parametrize(("read", "text"), READERS.values(), ids=READERS.keys())
def test_byte_order_mark_and_gzip_are_detected(tmp_path, read, text):
    contents = [
        text.encode(),
        text.encode("utf-8-sig"),
        gzip.compress(text.encode()),
        gzip.compress(text.encode("utf-8-sig")),
    ]
    found = []
    for n, content in enumerate(contents):
        (tmp_path / str(n)).mkdir()
        file = tmp_path / str(n) / "file"
        file.write_bytes(content)
        found.append(read(file))
    assert found == [found[0]] * 4
    assert found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.encode("utf-16-le"), ":1: expected UTF-8 text, got UTF-16 without a byte order mark"),
        (lambda text: gzip.compress(text.encode())[:-9], ": damaged gzip file: "),
    ],
    ids=["UTF-16", "truncated"],
)
@pytest.mark.parametrize(("read", "text"), READERS.values(), ids=READERS.keys())
def test_a_file_that_is_not_text_is_rejected(tmp_path, read, text, change, message):
    file = tmp_path / "file"
    file.write_bytes(change(text))
    with pytest.raises(ArgumentError) as raised:
        read(file)
    assert message in str(raised.value)
