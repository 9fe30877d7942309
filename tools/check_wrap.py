"""Check that Markdown and Rust comments wrap at 120 columns; ruff checks Python, rustfmt the rest of Rust.

Tables, code blocks, and lines without a space to break at are exempt.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COLUMNS = 120


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that have to wrap, with their numbers."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if path.suffix == ".rs":
            text = re.search(r"(^|\s)//.*", line)
            line = line if text else ""
        words = line.lstrip(" /!")
        if words.startswith("```"):
            fenced = not fenced
        if words and not fenced and not words.startswith("|"):
            yield number, line


def main() -> int:
    """Print each line that is too long; return 1 if there is one."""
    listed = subprocess.run(["git", "ls-files", "*.md", "*.rs"], capture_output=True, check=True, text=True)
    paths = [Path(name) for name in listed.stdout.splitlines()]
    assert len(paths) > 50, "found hardly any files"
    found = 0
    for path in paths:
        for number, line in prose(path):
            if len(line) > COLUMNS and " " in line[:COLUMNS].lstrip(" /!*-"):
                print(f"{path}:{number}: {len(line)} columns, expected at most {COLUMNS}")
                found += 1
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
