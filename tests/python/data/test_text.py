"""Text files, opened: every reader of text takes and refuses the same, in the same words."""

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
    """Read the third file of the NCF paper's three."""
    for part, text in {"train.rating": "0\t1\n0\t2\n1\t1\n", "test.rating": "0\t3\n1\t2\n"}.items():
        path.with_name(f"X.{part}").write_text(text)
    path.rename(path.with_name("X.test.negative"))
    return read_ncf(path.with_name("X")).candidates[0].tolist()


READERS = {"interactions": (interactions, PAIRS), "titles": (titles, PAIRS), "candidates": (candidates, NEGATIVE)}


@pytest.mark.parametrize(("read", "text"), READERS.values(), ids=READERS.keys())
def test_a_mark_and_gzip_are_recognised(tmp_path, read, text):
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
    ("change", "sentence"),
    [
        (lambda text: text.encode("utf-16"), ":1: expected UTF-8 text, got UTF-16"),
        (lambda text: gzip.compress(text.encode())[:-9], ": damaged gzip file: "),
    ],
    ids=["UTF-16", "cut off"],
)
@pytest.mark.parametrize(("read", "text"), READERS.values(), ids=READERS.keys())
def test_what_is_no_text_is_refused(tmp_path, read, text, change, sentence):
    file = tmp_path / "file"
    file.write_bytes(change(text))
    with pytest.raises(ArgumentError) as refused:
        read(file)
    assert sentence in str(refused.value)
