"""Inputs as shells and programs hand them over: compressions, encodings, pipes, folders, standard input."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

import neuralcf
from neuralcf import ArgumentError
from neuralcf.cli import main
from neuralcf.data import read_interactions, read_source
from neuralcf.data.readers import opening
from neuralcf.data.readers.features import encode_features, read_features
from neuralcf.data.readers.text import read_lines
from neuralcf.data.readers.titles import read_titles

ROWS = "user,item\n" + "".join(f"{n},{n % 3}\n" for n in range(9))
TITLES = "id,title\n1,Ünü\n2,Zwei\n"


def zipped(*names, content=ROWS):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def compressed(data, codec):
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, codec) as out:
        out.write(data)
    return stream.getvalue().to_pybytes()


COMPRESSIONS = {
    "gzip": gzip.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda data: zipped("__MACOSX/._a", "a.csv", content=data),
    "zstd": lambda data: compressed(data, "zstd"),
    "lz4": lambda data: compressed(data, "lz4"),
    "UTF-16 with a mark": lambda data: data.decode().encode("utf-16"),
    "UTF-32 with a mark": lambda data: data.decode().encode("utf-32"),
    "UTF-8 with a mark, gzip": lambda data: gzip.compress(b"\xef\xbb\xbf" + data),
}


@pytest.mark.parametrize("change", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
def test_every_reader_unpacks_the_same(tmp_path, change):
    (tmp_path / "rows").write_bytes(change(ROWS.encode()))
    (tmp_path / "titles").write_bytes(change(TITLES.encode()))
    assert len(read_interactions(tmp_path / "rows")[0]) == 9
    assert read_titles(tmp_path / "titles", ["1"]) == {"1": "Ünü"}


def tar(data):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("inner.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


FOREIGN = {
    "tar": (tar(ROWS.encode()), "a tar archive, which begins with 'inner.csv'; unpack it"),
    "tar.gz": (gzip.compress(tar(ROWS.encode())), "a tar archive"),
    "two files in a zip": (zipped("a.csv", "b.csv"), r"a zip archive of one file, got 2 \(a.csv, b.csv\); unpack it"),
    "Excel": (zipped("[Content_Types].xml", "xl/a.xml"), "an Excel workbook; export it as CSV"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive; unpack it"),
    "SQLite": (b"SQLite format 3\0" + bytes(99), "an SQLite database; export it"),
    "HTML": (b"<!DOCTYPE html><html>Not found</html>", "HTML or XML, perhaps the page of a failed download"),
    "a pickle": (pickle.dumps({"user": [1]}), "a Python pickle, which is never opened"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file; export it"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "other bytes": (bytes(range(256)) * 20 + bytes(9999), "got a binary file"),
    "UTF-16 without a mark": (ROWS.encode("utf-16-be"), "UTF-16 without a byte order mark; pass encoding='utf-16-be'"),
    "torn bzip2": (bz2.compress(ROWS.encode() * 99)[:-9], "damaged bzip2 file"),
    "torn xz": (lzma.compress(ROWS.encode() * 99)[:-9], "damaged xz file"),
    "torn zip": (zipped("a.csv")[:-9], "damaged zip file"),
}


@pytest.mark.parametrize(("data", "message"), FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("on_bad_rows", ["raise", "report"])
def test_what_is_not_read_is_named_with_a_remedy(tmp_path, data, message, on_bad_rows):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ArgumentError, match=message):
        read_interactions(tmp_path / "file", on_bad_rows=on_bad_rows)


def test_encodings(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_bytes("user,item\nJosé,1\nAnn,2\n".encode("latin-1"))
    assert main(["describe", str(path)]) == 0
    assert "--encoding, such as latin-1" in capsys.readouterr().out
    assert read_interactions(path, encoding="latin-1")[0].user_ids == ["Ann", "José"]
    path.write_bytes(ROWS.encode("utf-16-le"))
    assert len(read_interactions(path, encoding="utf-16-le")[0]) == 9
    with pytest.raises(ArgumentError, match="encoding: expected the name of a text encoding"):
        read_interactions(path, encoding="klingon")
    path.write_bytes(b"user,item\n1,2\n\x81,3\n")
    with pytest.raises(ArgumentError, match=r"a\.csv:3: expected cp1252 text, got b'\\x81'"):
        read_interactions(path, encoding="cp1252")


def test_pipes_and_standard_input(tmp_path):
    (tmp_path / "rows.csv").write_text(ROWS)
    pa.parquet.write_table(pa.table({"user": [1, 2], "item": [3, 4]}), tmp_path / "rows.parquet")

    def shell(command):
        env = os.environ | {"NCF": f"{sys.executable} -m neuralcf"}
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr

    for command in (
        "cat rows.csv | $NCF describe -",
        "$NCF describe - < rows.csv",
        "$NCF describe <(cat rows.csv)",
        "$NCF describe <(gzip < rows.csv)",
        "mkfifo p; cat rows.csv > p & $NCF describe p",
    ):
        code, out, err = shell(command)
        assert (code, err) == (0, ""), command
        assert "9 interactions of 9 users with 3 items" in out, command
    assert "2 interactions" in shell("$NCF describe <(cat rows.parquet)")[1]
    for command, message in (
        ("$NCF describe - <&-", "standard input, which is closed"),
        ("$NCF describe ''", "expected the path of a file, got ''"),
        ("$NCF train - --held-out - --out m < rows.csv", "standard input can be read only once"),
        ("mkdir d; $NCF describe d", "a folder without any"),
    ):
        code, out, err = shell(command)
        assert (code, out) == (2, ""), command
        assert message in err, command
        assert err.count("\n") == 1


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_SECONDS_FOR_A_WRITER", 0.1)
    os.mkfifo(tmp_path / "pipe")
    threads = threading.active_count()
    with pytest.raises(ArgumentError, match="expected a program that writes to this pipe"):
        read_interactions(tmp_path / "pipe")
    assert threading.active_count() == threads


def test_folders_and_several_files(tmp_path):
    folder = tmp_path / "spark"
    (folder / "day=1").mkdir(parents=True)
    (folder / "_SUCCESS").write_text("")
    (folder / ".part.crc").write_bytes(b"\0\1")
    pa.parquet.write_table(pa.table({"user": [1, 2], "item": [3, 4]}), folder / "day=1" / "part-0.parquet")
    pa.feather.write_feather(pa.table({"item": [3], "user": [5]}), folder / "part-1.arrow", compression="lz4")
    dataset, report = read_interactions(folder)
    assert (dataset.user_ids.tolist(), len(dataset), report.rows) == ([1, 2, 5], 3, 3)

    parts = [tmp_path / f"{n}.csv" for n in range(3)]
    parts[0].write_text("user,item,time\n1,051000,5\n1,1001,6\n,7,8\n")
    parts[1].write_text("3,1001,4\n4,1002,4\n")  # without a header, as a split export
    parts[2].write_text("item,user,time\n1001,2,7\n1001,1,9\n")
    dataset, report = read_interactions(parts, on_bad_rows="report")
    assert dataset.item_ids == ["051000", "1001", "1002"]
    assert (len(dataset), report.rows, report.bad, report.duplicates) == (5, 7, 1, 1)
    assert report.problems == (f"{parts[0]}:4: user: expected an id, got nothing",)
    assert report.source == f"{parts[0]} and 2 more"
    parts[1].write_text("item,user\n1001,2\n")
    with pytest.raises(ArgumentError, match=r"expected the columns .* as in"):
        read_interactions(parts[:2], on_bad_rows="report")
    parts[0].write_text("user,item\na,051000\n")
    with pytest.raises(
        ArgumentError, match=r"user: expected text as in .*0\.csv, such as 'a', got integers, such as 1; pass text_ids"
    ):
        read_interactions([parts[0], folder / "day=1"])


ENCODING = "shift_jis"
"""Whose characters may end in a byte that is a delimiter in ASCII."""


def test_every_reader_takes_the_encoding(tmp_path, capsys):
    def write(name, text):
        (tmp_path / name).write_bytes(text.encode(ENCODING))
        return tmp_path / name

    titles = write("titles.csv", "item,title\n猫,表 \n")
    assert b"\x5c" in titles.read_bytes()
    assert read_titles(titles, ["猫"], encoding=ENCODING) == {"猫": "表"}
    with pytest.raises(ArgumentError, match="expected ids of the model's items"):  # Latin-1, where it is not said
        read_titles(titles, ["猫"])
    genres = write("genres.csv", "item;genre\n猫;劇\n犬;劇\n鳥;童話\n魚;童話\n")
    features, report = read_features(genres, ["犬", "猫", "魚", "鳥"], "item", encoding=ENCODING)
    assert (report.matched, features.columns[0].values) == (4, ("劇", "童話"))
    assert encode_features(genres, features.columns, "item", encoding=ENCODING)[0] == ["猫", "犬", "鳥", "魚"]

    for part, text in {
        "train.rating": "花\t猫\t5\t1\n",
        "test.rating": "花\t犬\t5\t2\n",
        "test.negative": "(花,犬)\t鳥\n",
    }.items():
        write(f"X.{part}", text)
    split, _ = read_source(tmp_path / "X", encoding=ENCODING)
    assert split.train.item_ids == ["犬", "猫", "鳥"]
    assert split.candidates[1].tolist() == [2]
    assert main(["describe", str(tmp_path / "X"), "--encoding", ENCODING]) == 0
    assert main(["describe", str(tmp_path / "X"), "--encoding", ENCODING, "--delimiter", ","]) == 2
    assert "take no reading options but --text-ids, --encoding, got --delimiter" in capsys.readouterr().err

    rows = write("rows.csv", "user,item\n花,猫\n花,犬\n")
    pyarrow.parquet.write_table(pa.table({"user": ["花"], "item": ["鳥"]}), tmp_path / "more.parquet")
    both, _ = read_interactions([rows, tmp_path / "more.parquet"], encoding=ENCODING)  # Parquet knows its own
    assert both.item_ids == ["犬", "猫", "鳥"]
    tensors = {
        "gmf.user_embedding.weight": np.ones((1, 1), np.float32),
        "gmf.item_embedding.weight": np.ones((3, 1), np.float32),
        "output.weight": np.ones((1, 1), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    neuralcf.save(tensors, tmp_path / "m", kind="gmf", ids=(both.user_ids, both.item_ids), seen=([0, 1], [0]))
    users, out = write("users.txt", "花\n"), tmp_path / "lists.csv"
    command = ["recommend", str(tmp_path / "m"), "--users-file", str(users), "--out", str(out), "--items", str(titles)]
    assert main([*command, "--encoding", ENCODING]) == 0
    rows = [row.split(",") for row in out.read_text(encoding="utf-8").split()]
    assert [(row[0], row[2], row[4]) for row in rows[1:]] == [("花", "猫", "表"), ("花", "鳥", "")]


def test_only_cr_and_lf_end_a_line(tmp_path):
    (tmp_path / "ids").write_bytes("a\u2028b\r\nc\x85d\re\x0bf\n\ng".encode())
    assert read_lines(tmp_path / "ids") == ["a\u2028b", "c\x85d", "e\x0bf", "", "g"]
