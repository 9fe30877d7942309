"""The architecture rules for Rust, checked on the sources: confined unsafe code, files and threads; allowed uses."""

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUST = ROOT / "rust"

# Code that is confined to some files. Each of these files must contain it, so that no rule outlives its reason.
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
        {"format/directory.rs", "format/publish.rs", "format/system.rs", "memory.rs"},
    ),
}

MAY_USE = {
    "error": set(),
    "memory": {"error"},
    "indices": {"error"},
    "ids": {"error"},
    "order": {"error"},
    "csr": {"error", "indices"},
    "filter": {"error", "indices", "csr"},
    "histories": {"error", "indices", "csr"},
    "item_sets": {"error", "indices", "filter"},
    "pool": {"error"},
    "random": set(),
    "sampler": {"error", "csr", "pool", "random"},
    "kernel": {"error", "pool"},
    "format": {"error", "csr", "ids"},
    "engine": {"error", "memory", "indices", "csr", "pool", "kernel", "format"},
    "scan": {"error", "csr", "filter", "order", "pool", "kernel", "engine"},
    "queries": {
        "error",
        "memory",
        "indices",
        "csr",
        "histories",
        "filter",
        "order",
        "pool",
        "kernel",
        "format",
        "engine",
        "scan",
    },
    "index": {
        "error",
        "memory",
        "filter",
        "order",
        "pool",
        "random",
        "kernel",
        "format",
        "engine",
        "scan",
    },
}
"""What each module of the crate may use; `python`, the binding, may use all."""

Arrow = tuple[str, str]
"""A file, by its path below `rust/`, and a file that it uses."""


def rust_sources() -> dict[str, str]:
    """Read the code without comments and tests, by path."""
    sources = {}
    for path in sorted(RUST.rglob("*.rs")):
        code = path.read_text(encoding="utf-8").partition("#[cfg(test)]\nmod tests")[0]
        code = re.sub(r"//.*", "", code)
        # The binding is a separate crate, which names the core from outside.
        sources[path.relative_to(RUST).as_posix()] = re.sub(r"\bneuralcf::", "crate::", code)
    assert len(sources) > 50, "found hardly any sources"
    return sources


def leaves(tree: str) -> Iterator[str]:
    """Yield each path of a use tree: `a::{b, c::{self, D}}` yields `a::b`, `a::c` and `a::c::D`."""
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
    """Yield every path that the code uses, in a `use` or not, with whether it is re-exported (`pub use`)."""
    for public, tree in re.findall(r"^\s*(pub(?:\([^)]*\))? )?use ([^;]+);", code, re.MULTILINE):
        yield from ((bool(public), path) for path in leaves(" ".join(tree.split())))
    for path in re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse [^;]+;", "", code)):
        yield False, path


class Modules:
    """The files as a tree of modules, with the re-exports of each."""

    def __init__(self, sources: dict[str, str]) -> None:
        """Build the tree from the sources by path."""
        self.files = {self.name(path): path for path in sources}
        self.reexports: dict[str, dict[str, str]] = {name: {} for name in self.files}
        for path, code in sources.items():
            module = self.name(path)
            for public, used in uses(code):
                if public:
                    self.reexports[module][used.rpartition("::")[2]] = self.absolute(module, used)

    @staticmethod
    def name(path: str) -> str:
        """`kernel/simd/mod.rs` is `kernel::simd`, `python/lib.rs` is `python`; the root of the core is empty."""
        return re.sub(r"(^|/)(mod|lib)$", "", path.removesuffix(".rs")).replace("/", "::")

    def absolute(self, module: str, path: str) -> str:
        """Resolve `path`, as used in `module`, to a path from the crate root; paths of other crates stay unchanged."""
        head, _, tail = path.partition("::")
        while head in ("super", "self", "crate"):
            above = module.rpartition("::")[0] if head == "super" else module if head == "self" else ""
            module, (head, _, tail) = above, tail.partition("::")
            if head not in ("super", "self"):
                return f"{module}::{head}::{tail}".strip(":")
        return f"{module}::{path}".strip(":") if f"{module}::{head}".strip(":") in self.files else path

    def file(self, path: str) -> str | None:
        """Return the file that defines an absolute path; None for other crates."""
        module = path
        while module and module not in self.files:
            module = module.rpartition("::")[0]
        if not module:
            reexports = self.reexports[""].get(path.partition("::")[0])
            return self.file(reexports) if reexports and reexports != path else None
        name = path.removeprefix(module).removeprefix("::").partition("::")[0]
        reexports = self.reexports[module].get(name)
        return self.file(reexports) if reexports and reexports != path else self.files[module]


def arrows() -> set[Arrow]:
    """Return which file uses which. A re-export in a `mod.rs` is a use by those who name it, not by the `mod.rs`."""
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
def test_confined_code_stays_in_its_files(what: str) -> None:
    pattern, allowed = CONFINED[what]
    assert {path for path, code in rust_sources().items() if re.search(pattern, code)} == allowed


def test_the_compiler_denies_unsafe_code_elsewhere() -> None:
    assert 'unsafe_code = "deny"' in (ROOT / "Cargo.toml").read_text(encoding="utf-8")


def test_modules_use_only_what_the_table_allows() -> None:
    found = set()
    for path, target in arrows():
        module, used = (name.partition("/")[0].removesuffix(".rs") for name in (path, target))
        if module != used and module not in ("lib", "python"):
            found.add((module, used))
            assert used in MAY_USE[module], f"{path} uses {target}: {module} may use {sorted(MAY_USE[module])}"
    allowed = {(module, used) for module, others in MAY_USE.items() for used in others}
    assert allowed == found, f"the table allows uses that do not exist: {sorted(allowed - found)}"
    print(f"{len(found)} arrows between {len(MAY_USE)} modules")


def test_there_are_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path, target in arrows():
        graph.setdefault(path, set()).add(target)
    assert sum(map(len, graph.values())) > 150, "found hardly any arrows"
    assert list(TopologicalSorter(graph).static_order()), "cycles raise CycleError"
    print(f"{sum(map(len, graph.values()))} arrows between {len(graph)} files, no cycle")


def test_use_trees_are_parsed() -> None:
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


def test_tests_that_are_skipped_under_emulation_exist() -> None:
    skipped = re.findall(r"--skip (\w+)", (ROOT / "tools" / "emulate.sh").read_text(encoding="utf-8"))
    code = "\n".join(
        path.read_text(encoding="utf-8") for folder in ("rust", "tests") for path in ROOT.glob(f"{folder}/**/*.rs")
    )
    assert len(skipped) == 3
    assert [name for name in skipped if not re.search(rf"fn {name}\(", code)] == []
