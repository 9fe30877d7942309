"""What commands print: output that outlives its reader, and commands that work when they are pasted into a shell."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TextIO

__all__ = ["Lasting", "as_argument", "command_line", "recommend_command", "silence"]


class Lasting(io.TextIOBase):
    """Text output of a command whose task is another: when its reader is gone, it goes nowhere, without an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, if there is still a reader."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            silence(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, if there is still a reader."""
        try:
            if not self._stream.closed:
                self._stream.flush()
        except BrokenPipeError:
            silence(self._stream)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self._stream.encoding

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()


def silence(stream: TextIO) -> None:
    """Send what is written to a stream from now on nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def command_line(words: Sequence[str]) -> str:
    """Join words to a command that a shell reads back as these words, also with bytes that cannot be shown."""
    return " ".join(map(_quoted, words))


def as_argument(path: object) -> str:
    """Return a path that is no option, also if it begins with `-`."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def recommend_command(model: object, user: object) -> str:
    """Return the command that recommends items to a user."""
    id_ = [f"--user={user}"] if str(user).startswith("-") else ["--user", str(user)]
    return command_line(["neuralcf", "recommend", as_argument(model), *id_])


def _quoted(word: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        word.encode(encoding)
        plain = word.isprintable()
    except UnicodeEncodeError:
        plain = False
    if plain:
        return shlex.quote(word)
    data = word.encode("utf-8", "surrogateescape")
    escaped = "".join(chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}" for byte in data)
    return f"$'{escaped}'"  # bash, zsh and ksh; a byte that two hexadecimal digits name
