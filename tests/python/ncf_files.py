"""A small version of the NCF paper's three files."""

import gzip
from pathlib import Path

NCF = {
    "train.rating": "0\t1\t5\t10\n0\t2\t3\t11\n1\t1\t4\t12\n",
    "test.rating": "0\t3\t5\t20\n1\t2\t4\t21\n",
    "test.negative": "(0,3)\t4\t3\t5\n(1,2)\t3\t4\n",
}


def write_ncf(folder, **changed):
    for part, text in {**NCF, **{name.replace("_", "."): text for name, text in changed.items()}}.items():
        path = folder / f"X.{part}"
        if part == "test.negative":
            Path(f"{path}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
    return folder / "X"
