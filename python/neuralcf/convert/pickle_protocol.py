"""Files of torch in a newer pickle protocol, rewritten so that `weights_only` reads them.

torch checks and reads protocol 2 alone; RecBole writes protocol 4. This rewrites instructions one by one, without
running any: https://docs.python.org/3/library/pickletools.html describes them.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from os import PathLike
from typing import Any, Final

__all__ = ["in_protocol_2"]

_STRINGS: Final = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES: Final = ("SHORT_BINBYTES", "BINBYTES")
"""They become text, since no weights are in them."""
_SAME: Final = {"PROTO": b"\x80\x02", "FRAME": b"", "EMPTY_SET": b"]", "ADDITEMS": b"e", "FROZENSET": b"t"}
"""Instructions with another for the same; sets become lists and tuples, which no weights are in."""


def in_protocol_2(path: str | PathLike[str]) -> str | PathLike[str] | io.BytesIO:
    """Return a file of torch as it is if it has protocol 2 or is no archive, and otherwise rewritten in memory.

    Raises:
        pickle.UnpicklingError: an instruction that protocol 2 cannot express.
        OSError: the file cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1 or archive.read(names[0])[:2] <= b"\x80\x02":
            return path
        rewritten = io.BytesIO()
        with zipfile.ZipFile(rewritten, "w", zipfile.ZIP_STORED) as target:
            for name in archive.namelist():
                content = archive.read(name)
                target.writestr(name, _rewrite(content) if name == names[0] else content)
    rewritten.seek(0)
    return rewritten


def _rewrite(data: bytes) -> bytes:
    """Rewrite a pickle; strings are repeated in full, so that none needs a place in the memo."""
    out: list[bytes] = []
    strings: dict[int, str] = {}
    memoized = 0
    pushed: list[str | None] = []
    """The string that each piece of `out` pushes, None if it does something else."""

    def push(text: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        out.append(b"X" + len(content).to_bytes(4, "little") + content)
        pushed.append(text)

    def keep(piece: bytes) -> None:
        if piece:
            out.append(piece)
            pushed.append(None)

    operations = list(pickletools.genops(data))
    ends = [place for _, _, place in operations[1:] if place is not None] + [len(data)]
    argument: Any
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        name = operation.name
        if name in _STRINGS:
            push(str(argument))
        elif name in _BYTES:
            push(bytes(argument).decode("latin-1"))
        elif name in _SAME:
            keep(_SAME[name])
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            place = memoized if name == "MEMOIZE" else int(argument)
            memoized += 1
            text = pushed[-1] if pushed else None
            if text is None:
                out.append(b"r" + place.to_bytes(4, "little"))
                pushed.append(None)
            else:
                strings[place] = text
        elif name in ("BINGET", "LONG_BINGET") and argument in strings:
            push(strings[int(argument)])
        elif name == "STACK_GLOBAL":
            module, attribute = pushed[-2:] if len(pushed) > 1 else (None, None)
            if module is None or attribute is None or "\n" in module + attribute:
                raise pickle.UnpicklingError("a global whose name is not a plain string")
            del out[-2:], pushed[-2:]
            keep(b"c" + f"{module}\n{attribute}\n".encode())
        elif operation.proto > 2:
            raise pickle.UnpicklingError(f"the instruction {name} of pickle protocol {operation.proto}")
        else:
            keep(data[start:end])
    return b"".join(out)
