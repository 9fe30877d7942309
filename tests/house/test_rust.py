"""The rules of the house in Rust, read off the sources: where unsafe code, files and threads may be, who knows whom."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUST = ROOT / "rust"

# What may stand only in some files, and where it must stand, so that a rule cannot outlive what it is about.
CONFINED = {
    "unsafe code": (
        r"\bunsafe\b|allow\(unsafe_code",
        {"kernel/avx2.rs", "kernel/avx512.rs", "kernel/float_env.rs", "pool.rs", "python/arrays.rs"},
    ),
    "starting threads": (r"\bthread::(spawn|scope|Builder)\b", {"pool.rs"}),
    "opening files": (
        r"\bfs::|\bFile::|\bOpenOptions\b",
        {"format/directory.rs", "format/publish.rs"},
    ),
}

LEAVES = {"kernel", "order", "filter", "pool", "ids"}
MAY_KNOW = {
    "error": set(),
    **{leaf: {"error"} for leaf in LEAVES},
    "format": {"error", "filter", "ids"},
    "layout": {"error", "format", *LEAVES},
    "choose": {"error", *LEAVES},
    "engine": {"error", "format", "layout", "choose", *LEAVES},
    "pairs": {"error", "format", "engine", *LEAVES},
    "rank": {"error", "format", "engine", "choose", *LEAVES},
    "index": {"error", "format", "engine", "pairs", "rank", *LEAVES},
}
"""The modules of the crate that each may use; `python`, which translates, may use all."""


def rust_sources() -> dict[str, str]:
    """Code without comments and tests, by path."""
    sources = {}
    for path in sorted(RUST.rglob("*.rs")):
        code = path.read_text(encoding="utf-8").partition("#[cfg(test)]\nmod tests")[0]
        sources[path.relative_to(RUST).as_posix()] = re.sub(r"//.*", "", code)
    assert len(sources) > 25, "hardly any source was found"
    return sources


def names_used(code: str) -> Iterator[str]:
    """What follows `crate::`, also in braces."""
    for match in re.finditer(r"\bcrate::(?:(\w+)|\{)", code):
        if match[1]:
            yield match[1]
            continue
        depth, name = 1, ""
        for character in code[match.end() :]:
            depth += (character == "{") - (character == "}")
            if depth == 1 and character not in ",}":
                name += character
            elif name.strip():
                yield name.strip().partition("::")[0]
                name = ""
            if depth == 0:
                break


@pytest.mark.parametrize("what", CONFINED)
def test_what_is_confined_stays_in_its_files(what: str) -> None:
    pattern, allowed = CONFINED[what]
    assert {path for path, code in rust_sources().items() if re.search(pattern, code)} == allowed


def test_unsafe_code_is_denied_elsewhere_by_the_compiler() -> None:
    assert 'unsafe_code = "deny"' in (ROOT / "Cargo.toml").read_text(encoding="utf-8")


def test_modules_know_only_those_below_them() -> None:
    seen = set()
    for path, code in rust_sources().items():
        module = path.partition("/")[0].removesuffix(".rs")
        if module in ("lib", "python"):
            continue
        used = set(names_used(code)) - {module}
        assert used <= MAY_KNOW[module], f"{path} uses {used - MAY_KNOW[module]}"
        assert "super::super" not in code, f"{path} reaches around the rule"
        seen |= {(module, name) for name in used}
    assert {("format", "filter"), ("engine", "format"), ("rank", "engine"), ("kernel", "error")} <= seen


def test_names_in_braces_are_found() -> None:
    code = "use crate::error::{Error, Result};\nuse crate::{\n    engine::{self, Engine},\n    pool,\n    ids::Ids,\n};"
    assert list(names_used(code)) == ["error", "engine", "pool", "ids"]
