"""The rules of the house in Rust, read from the sources: where unsafe code, files and threads may be, who uses whom."""

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUST = ROOT / "rust"

# What may stand only in some files, and where it must stand, so that a rule cannot outlive what it is about.
CONFINED = {
    "unsafe code": (
        r"\bunsafe\b|allow\(unsafe_code",
        {
            "kernel/simd/avx2.rs",
            "kernel/simd/avx512.rs",
            "kernel/simd/float_env.rs",
            "pool/mod.rs",
            "pool/workers.rs",
            "python/arrays.rs",
        },
    ),
    "starting threads": (r"\bthread::(spawn|scope|Builder)\b", {"pool/workers.rs"}),
    "opening files": (
        r"\bfs::|\bFile::|\bOpenOptions\b",
        {"format/directory.rs", "format/publish.rs"},
    ),
}

MAY_USE = {
    "error": set(),
    "indices": {"error"},
    "ids": {"error"},
    "order": {"error"},
    "csr": {"error", "indices"},
    "filter": {"error", "indices", "csr"},
    "pool": {"error"},
    "kernel": {"error", "pool"},
    "format": {"error", "csr", "ids"},
    "engine": {"error", "indices", "csr", "pool", "kernel", "format"},
    "scan": {"error", "csr", "filter", "order", "pool", "kernel", "engine"},
    "queries": {"error", "indices", "csr", "filter", "order", "pool", "engine", "scan"},
}
"""What each module of the crate may use; `python`, which translates, may use all."""

Arrow = tuple[str, str]
"""A file, as its path below `rust/`, and one that it uses."""


def rust_sources() -> dict[str, str]:
    """Code without comments and tests, by path."""
    sources = {}
    for path in sorted(RUST.rglob("*.rs")):
        code = path.read_text(encoding="utf-8").partition("#[cfg(test)]\nmod tests")[0]
        code = re.sub(r"//.*", "", code)
        # The binding is a crate of its own, which names the core from outside.
        sources[path.relative_to(RUST).as_posix()] = re.sub(r"\bneuralcf::", "crate::", code)
    assert len(sources) > 50, "hardly any source was found"
    return sources


def leaves(tree: str) -> Iterator[str]:
    """Each path of a use tree: `a::{b, c::{self, D}}` gives `a::b`, `a::c` and `a::c::D`."""
    prefix, brace, rest = tree.partition("{")
    if not brace:
        path = tree.partition(" as ")[0].strip()
        yield path.removesuffix("::self")
        return
    depth, branch = 0, ""
    for character in rest[: rest.rindex("}")] + ",":
        if character == "," and depth == 0:
            if branch.strip():
                yield from leaves(prefix.strip() + branch.strip())
            branch = ""
            continue
        depth += (character == "{") - (character == "}")
        branch += character


def uses(code: str) -> Iterator[tuple[bool, str]]:
    """Every path that the code uses, whether or not by a `use`, with whether it is passed on (`pub use`)."""
    for public, tree in re.findall(r"^\s*(pub(?:\([^)]*\))? )?use ([^;]+);", code, re.MULTILINE):
        yield from ((bool(public), path) for path in leaves(" ".join(tree.split())))
    for path in re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse [^;]+;", "", code)):
        yield False, path


class Modules:
    """The files as a tree of modules, with what each passes on."""

    def __init__(self, sources: dict[str, str]) -> None:
        """Take the files' sources by path."""
        self.files = {self.name(path): path for path in sources}
        self.passed_on: dict[str, dict[str, str]] = {name: {} for name in self.files}
        for path, code in sources.items():
            module = self.name(path)
            for public, used in uses(code):
                if public:
                    self.passed_on[module][used.rpartition("::")[2]] = self.absolute(module, used)

    @staticmethod
    def name(path: str) -> str:
        """`kernel/simd/mod.rs` is `kernel::simd`, `python/lib.rs` is `python`; the root of the core is empty."""
        return re.sub(r"(^|/)(mod|lib)$", "", path.removesuffix(".rs")).replace("/", "::")

    def absolute(self, module: str, path: str) -> str:
        """`path` as `module` says it, from the root of the crate on; a foreign crate's path stays."""
        head, _, tail = path.partition("::")
        while head in ("super", "self", "crate"):
            above = module.rpartition("::")[0] if head == "super" else module if head == "self" else ""
            module, (head, _, tail) = above, tail.partition("::")
            if head not in ("super", "self"):
                return f"{module}::{head}::{tail}".strip(":")
        return f"{module}::{path}".strip(":") if f"{module}::{head}".strip(":") in self.files else path

    def file(self, path: str) -> str | None:
        """The file that defines what an absolute path names; None for a foreign crate's."""
        module = path
        while module and module not in self.files:
            module = module.rpartition("::")[0]
        if not module:
            passed_on = self.passed_on[""].get(path.partition("::")[0])
            return self.file(passed_on) if passed_on and passed_on != path else None
        name = path.removeprefix(module).removeprefix("::").partition("::")[0]
        passed_on = self.passed_on[module].get(name)
        return self.file(passed_on) if passed_on and passed_on != path else self.files[module]


def arrows() -> set[Arrow]:
    """Who uses whom, file by file. What a `mod.rs` passes on is used by those who name it, not by the `mod.rs`."""
    sources = rust_sources()
    modules = Modules(sources)
    found = set()
    for path, code in sources.items():
        for public, used in uses(code):
            target = modules.file(modules.absolute(modules.name(path), used))
            if target and target != path and not (public and path.endswith(("mod.rs", "lib.rs"))):
                found.add((path, target))
    return found


@pytest.mark.parametrize("what", CONFINED)
def test_what_is_confined_stays_in_its_files(what: str) -> None:
    pattern, allowed = CONFINED[what]
    assert {path for path, code in rust_sources().items() if re.search(pattern, code)} == allowed


def test_unsafe_code_is_denied_elsewhere_by_the_compiler() -> None:
    assert 'unsafe_code = "deny"' in (ROOT / "Cargo.toml").read_text(encoding="utf-8")


def test_modules_use_only_those_below_them() -> None:
    found = set()
    for path, target in arrows():
        module, used = (name.partition("/")[0].removesuffix(".rs") for name in (path, target))
        if module != used and module not in ("lib", "python"):
            found.add((module, used))
            assert used in MAY_USE[module], f"{path} uses {target}: {module} may use {sorted(MAY_USE[module])}"
    allowed = {(module, used) for module, those in MAY_USE.items() for used in those}
    assert allowed == found, f"the table allows arrows that nobody needs: {sorted(allowed - found)}"
    print(f"{len(found)} arrows between {len(MAY_USE)} modules")


def test_no_file_uses_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {}
    for path, target in arrows():
        graph.setdefault(path, set()).add(target)
    assert sum(map(len, graph.values())) > 150, "hardly any arrow was found"
    assert list(TopologicalSorter(graph).static_order()), "circles raise CycleError"
    print(f"{sum(map(len, graph.values()))} arrows between {len(graph)} files, no circle")


def test_use_trees_are_read() -> None:
    code = "use crate::error::{Error, Result};\nuse crate::{\n    engine::{self, Engine},\n    pool,\n};\n"
    code += "let x = super::y::Z;"
    assert {path for _, path in uses(code)} == {
        "crate::error::Error",
        "crate::error::Result",
        "crate::engine",
        "crate::engine::Engine",
        "crate::pool",
        "super::y::Z",
    }
