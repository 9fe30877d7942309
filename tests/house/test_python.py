"""The rules of the house in Python, read off the sources: who needs torch."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "python" / "neuralcf"

TRAINING = {"demo", "experiment", "models", "training"}
"""The modules of the package that may need torch."""


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


def test_torch_is_imported_by_the_training_side_alone() -> None:
    found = {name.partition(".")[0] for name, module in modules().items() if imports_torch(module)}
    assert found <= TRAINING
    assert "models" in found


def test_everything_else_works_without_torch() -> None:
    names = [f"neuralcf.{name}".rstrip(".") for name in modules() if name.partition(".")[0] not in TRAINING]
    names = [name for name in names if name != "neuralcf.__main__"]
    assert {"neuralcf", "neuralcf.serving.recommender", "neuralcf.format.save"} <= set(names)
    program = "import sys, importlib; sys.modules['torch'] = None; [importlib.import_module(m) for m in sys.argv[1:]]"
    command = [sys.executable, "-c", program, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
