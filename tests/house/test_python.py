"""The architecture rules for Python, checked on the sources: allowed imports, and optional dependencies."""

import ast
import graphlib
import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "neuralcf"

IMPORTS = {
    # shared ground, which imports nothing else of ours
    "errors": "",
    "results": "",
    "seeds": "",
    "files": "errors",
    "attributes": "_core",
    # from data to rankings: no torch
    "data": "errors seeds attributes",
    "format": "errors files _core",
    "serving": "errors results _core attributes",
    "batch": "errors files _core format serving",
    "convert": "errors _core format",
    "baselines": "errors results seeds data",
    "evaluation": "errors results seeds files _core data format baselines",
    "report": "errors _core data format baselines evaluation",
    # training, which needs torch
    "models": "errors",
    "training": "errors seeds files _core attributes data baselines evaluation models",
    "experiment": "_core data format baselines evaluation training",
    "tuning": "errors files seeds _core data evaluation training",
    "demo": "errors files _core data format serving report models training experiment",
    # entry points
    "cli": "errors files results _core attributes batch convert data format serving evaluation report training "
    "experiment tuning demo",
    "__main__": "cli",
    "neuralcf": "errors results _core format serving models training",
}
"""What each package or module imports of ours, at run time or for type checkers; `_core` is the compiled extension. An
import that is not in this table fails, and so does an entry that no import needs."""

TORCH = {"models", "training", "experiment", "tuning", "demo"}
"""Packages that cannot be imported without torch; all others can."""

NEEDS = {
    "torch": "models training demo convert",
    "tqdm": "training cli",
    "pyarrow": "batch convert data",
    "optuna": "tuning",
    "starlette": "serving",
    "uvicorn": "serving",
    "prometheus_client": "serving",
    "pyspark": "batch",
    "ray": "batch",
    "huggingface_hub": "serving",
    "matplotlib": "report demo",
}
"""Optional dependencies, and the packages of ours that import them."""

Arrow = tuple[str, str]


@cache
def modules() -> dict[str, ast.Module]:
    """The modules of the package by name, such as `neuralcf.data.split`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("neuralcf", *path.relative_to(PACKAGE).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    assert len(found) > 50, "found hardly any modules"
    return found


def names_imported(tree: ast.AST) -> Iterator[str]:
    """Yield all imports of a module, also in functions and for type checkers, and our modules' names in strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not supported here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() or inner == "neuralcf._core" else str(node.module)
        elif isinstance(node, ast.Constant) and node.value != "neuralcf" and node.value in modules():
            yield str(node.value)


@cache
def arrows() -> frozenset[Arrow]:
    """Return all imports between our modules, including `neuralcf._core`."""
    known = {*modules(), "neuralcf._core"}
    found = {(name, other) for name, tree in modules().items() for other in names_imported(tree) if other in known}
    return frozenset((name, other) for name, other in found if name != other)


def package_of(module: str) -> str:
    """The row of a module: `data` of `neuralcf.data.split`."""
    return module.removeprefix("neuralcf.").partition(".")[0]


def package_arrows() -> set[Arrow]:
    pairs = {(package_of(name), package_of(other)) for name, other in arrows()}
    return {(name, other) for name, other in pairs if name != other}


def test_packages_import_only_what_the_table_allows(capsys: pytest.CaptureFixture[str]) -> None:
    assert {package_of(name) for name in modules()} == IMPORTS.keys()
    allowed = {(name, other) for name, others in IMPORTS.items() for other in others.split()}
    found = package_arrows()
    where = {(package_of(a), package_of(b)): f"{a} imports {b}" for a, b in sorted(arrows())}
    assert not found - allowed, sorted(where[arrow] for arrow in found - allowed)
    assert not allowed - found, "the table allows imports that do not exist"
    assert {("training", "models"), ("cli", "demo"), ("evaluation", "baselines"), ("neuralcf", "training")} <= found
    with capsys.disabled():
        print(f"\n{len(modules())} modules, {len(arrows())} arrows; {len(IMPORTS)} packages, {len(found)} arrows")


def test_there_are_no_import_cycles() -> None:
    for pairs in (arrows(), package_arrows()):
        graph: dict[str, set[str]] = {}
        for name, other in pairs:
            graph.setdefault(name, set()).add(other)
        assert len(graph) > 10
        tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the cycle


def test_imports_are_found_anywhere_in_a_module() -> None:
    code = """
import neuralcf.seeds as s
from neuralcf.report import page, charts
if TYPE_CHECKING:
    from neuralcf.models import GMF
def later():
    from neuralcf.data import Split
    import torch.nn
    import_module("neuralcf.errors")
"""
    expected = ["seeds", "report.page", "report.charts", "models", "data", "errors"]
    found = [name for name in names_imported(ast.parse(code)) if name != "torch.nn"]
    assert sorted(found) == sorted(f"neuralcf.{name}" for name in expected)


def test_optional_dependencies_are_imported_only_where_needed() -> None:
    found: dict[str, set[str]] = {name: set() for name in NEEDS}
    for name, tree in modules().items():
        for imported in names_imported(tree):
            found.get(imported.partition(".")[0], set()).add(package_of(name))
    assert found == {name: set(packages.split()) for name, packages in NEEDS.items()}


def test_everything_else_works_without_torch() -> None:
    names = [name for name in modules() if package_of(name) not in TORCH]
    names.remove("neuralcf.__main__")  # importing it runs the command
    if not all(map(importlib.util.find_spec, ("starlette", "uvicorn", "httptools", "prometheus_client"))):
        names = [name for name in names if not name.startswith("neuralcf.serving.http")]  # needs the extra `serve`
    assert {"neuralcf", "neuralcf.serving.recommender", "neuralcf.format.save"} <= set(names)
    program = "import sys, importlib; sys.modules['torch'] = None; [importlib.import_module(m) for m in sys.argv[1:]]"
    command = [sys.executable, "-c", program, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["report", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = """if True:
        import contextlib, io, sys
        from neuralcf.cli import main
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            main(sys.argv[1:])
        print(*sys.modules)
    """
    command = [sys.executable, "-c", program, *arguments]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert "neuralcf.cli.train" in loaded
    assert not {*NEEDS, "scipy", "pandas", "polars"} & set(loaded)
    ours = {package_of(name) for name in loaded if name.startswith("neuralcf.")}
    assert ours <= {
        "cli",
        "_core",
        "errors",
        "results",
        "files",
        "attributes",
        "format",
        "serving",
    }  # format and serving come with `import neuralcf`


def test_no_two_classes_share_a_name() -> None:
    names = Counter(
        node.name for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 50
    assert [name for name, count in names.items() if count > 1] == []


def narrows(test: ast.expr) -> bool:
    """Whether an assertion only tells a type checker what is there."""
    match test:
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
    return False


def test_assertions_check_nothing_that_a_user_can_cause() -> None:
    """`python -O` removes them, and an AssertionError tells a user nothing."""
    found = [
        (name, node.lineno, node.test)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found
    assert [f"{name}:{line}" for name, line, test in found if not narrows(test)] == []
