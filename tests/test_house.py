"""The rules of the house, read off the sources: where unsafe code, files and threads may be, and who may know whom."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUST, PYTHON = ROOT / "rust", ROOT / "python" / "neuralcf"

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

TRAINING = {"demo", "device", "losses", "models", "pipeline", "run_directory", "train", "train_command", "trainers"}
"""The modules of the package that may need torch."""


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


def modules() -> dict[str, ast.Module]:
    """The modules of the package by name, such as `data.split`."""
    found = {}
    for path in sorted(PYTHON.rglob("*.py")):
        name = ".".join(path.relative_to(PYTHON).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text(encoding="utf-8"))
    assert len(found) > 5, "hardly any module was found"
    return found


def imports_torch(node: ast.AST) -> bool:
    """Whether torch is imported anywhere below, but for type checkers."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return any(map(imports_torch, node.orelse))
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [node.module or ""]
    return any(name.split(".")[0] == "torch" for name in names) or any(map(imports_torch, ast.iter_child_nodes(node)))


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


def test_torch_is_imported_by_the_training_side_alone() -> None:
    found = {name.partition(".")[0] for name, module in modules().items() if imports_torch(module)}
    assert found <= TRAINING
    assert "models" in found


def test_everything_else_works_without_torch() -> None:
    names = [f"neuralcf.{name}".rstrip(".") for name in modules() if name.partition(".")[0] not in TRAINING]
    names = [name for name in names if name != "neuralcf.__main__"]
    assert {"neuralcf", "neuralcf.recommender", "neuralcf.export"} <= set(names)
    program = "import sys, importlib; sys.modules['torch'] = None; [importlib.import_module(m) for m in sys.argv[1:]]"
    command = [sys.executable, "-c", program, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
