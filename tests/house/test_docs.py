"""The documentation is correct: every code block runs, every link resolves, every public name is mentioned.

The blocks of a page run in order, in one folder that is empty at first, as a reader would run them; Python blocks share
their names. Data that a reader is told to download are linked into the folder from `../shared/data`; if they are
missing, a page is skipped from the first block that needs them. Only the README finds a small model in `model/`.

    python        runs
    sh            one command per line: those in RUN run, those in NOT_RUN do not, any other is an error
    console       the same, after `$ `; each other line must occur in the output, in this order. Numbers are not
                  compared, because they depend on the machine. A line `...` marks an omission
    toml          is read as a training configuration
    rust          is a doc test: `cargo test` runs the pages that rust/lib.rs includes
    text, math    are not code
"""

import argparse
import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import neuralcf
from neuralcf import cli
from neuralcf.training import configure

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / ".." / "shared" / "data"
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in {"target", "build", "dist"} for part in page.relative_to(ROOT).parts)
)
RUN = ("neuralcf", "python")
NOT_RUN = {
    "cargo": "builds or installs",
    "curl": "downloads",
    "make": "sets up the project",
    "pip": "installs",
    "source": "changes the reader's shell",
    "torchrun": "starts processes that wait for one another",
    "unzip": "unpacks what was downloaded",
}
DATA = {"u.data": "ml-100k", "ml-1m": "ml-1m"}
"""Prefixes of data files, and the folders that hold them."""
OPTIONAL = {
    "implicit": "test-convert",
    "faiss": "test-convert",
    "usearch": "test-convert",
    "pyspark": "test-scale",
    "ray": "test-scale",
}
"""Packages that pages show, and the targets of make whose environments have them."""


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    text = text_of(page)
    fences = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text.count("\n", 0, fence.start()) + 1, fence[1], fence[2]) for fence in fences]


BLOCKS = {page: blocks for page in PAGES if (blocks := blocks_of(page))}
TO_RUN = [page for page in BLOCKS if {"python", "sh", "console", "toml"} & {block.language for block in BLOCKS[page]}]


# --------------------------------------------------------------------------------------------------------- blocks run


def test_pages_and_blocks_were_found() -> None:
    languages = {block.language for blocks in BLOCKS.values() for block in blocks}
    assert languages == {"python", "sh", "console", "toml", "rust", "text", "math"}
    assert {"README.md", "docs/tutorial.md", "docs/serving.md"} <= set(TO_RUN)


def test_rust_blocks_are_doc_tests() -> None:
    included = re.findall(r'include_str!\("\.\./(.+?\.md)"\)', text_of("rust/lib.rs"))
    assert included == [page for page, blocks in BLOCKS.items() if any(block.language == "rust" for block in blocks)]


@pytest.mark.parametrize("page", TO_RUN)
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "README.md":
        save_small_model("model")
    absent = link_data(tmp_path)
    names: dict[str, object] = {"__name__": page}
    for block in BLOCKS[page]:
        for name in absent:
            if re.search(rf"(?<![\w/.]){re.escape(name)}\b", block.code) and block.language != "text":
                pytest.skip(f"{block.place} needs {name} of ../shared/data/{DATA[name]}, which is absent")
        if block.language == "python":
            if missing := [package for package in OPTIONAL if imports(block, package) and not find_spec(package)]:
                pytest.skip(f"{block.place} needs {missing[0]}; make {OPTIONAL[missing[0]]} has it")
            exec(compile("\n" * block.line + block.code, page, "exec"), names)  # tracebacks show the line of the page
        elif block.language in ("sh", "console"):
            run_commands(block, monkeypatch)
        elif block.language == "toml":
            (tmp_path / "read.toml").write_text(block.code)
            assert configure(toml=tmp_path / "read.toml") != configure(), block.place


def imports(block: Block, package: str) -> bool:
    return re.search(rf"^(import|from) {package}\b", block.code, re.MULTILINE) is not None


def save_small_model(path: str) -> None:
    users, items, rng = 50, 40, np.random.default_rng(0)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((users, 3), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((items, 3), dtype=np.float32),
        "output.weight": np.ones((1, 3), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    seen = (np.arange(users + 1), np.arange(users) % items)
    neuralcf.save(tensors, path, kind="gmf", ids=(np.arange(users), np.arange(items)), seen=seen)


def link_data(folder: Path) -> list[str]:
    """Link the data files into a folder; return the names in DATA for which there are none."""
    for name, where in DATA.items():
        for file in (SHARED / where).glob(f"{name}*"):
            (folder / file.name).symlink_to(file.resolve())
    return [name for name in DATA if not any(folder.glob(f"{name}*"))]


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a block, each with the output lines that the page shows."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "sh":
        yield from ((line, []) for line in lines if line.strip() and not line.startswith("#"))
        return
    assert lines[0].startswith("$ "), f"{block.place}: a console block must begin with a command"
    for command in re.split(r"^\$ ", "\n".join(lines), flags=re.MULTILINE)[1:]:
        first, *output = command.split("\n")
        yield first, [line for line in output if line.strip() and line != "..."]


def run_commands(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, shown in commands_of(block):
        words = shlex.split(command, comments=True)
        settings = dict(word.split("=", 1) for word in words if re.fullmatch(r"[A-Z_]+=.*", word))
        program, *arguments = words[len(settings) :]
        assert program in RUN or program in NOT_RUN, f"{block.place}: {program}: neither in RUN nor in NOT_RUN"
        if program in NOT_RUN:
            assert not shown, f"{block.place}: output of a command that does not run"
            continue
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            printed = run_neuralcf(block, arguments) if program == "neuralcf" else run_python(arguments)
        found = iter([without_numbers(line) for line in printed.splitlines()])
        for line in shown:
            assert without_numbers(line) in found, (
                f"{block.place}: expected in this order, not found: {line}\n{printed}"
            )


def run_neuralcf(block: Block, arguments: list[str]) -> str:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = cli.main(arguments)
    assert code == 0, f"{block.place}: neuralcf {shlex.join(arguments)}: exit code {code}\n{errors.getvalue()}"
    return output.getvalue()


def run_python(arguments: list[str]) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def without_numbers(line: str) -> str:
    """Replace numbers and fingerprints by `#`, and runs of spaces by one space."""
    return " ".join(re.sub(r"\b[0-9a-f]{16,}\b|[-+]*\d[\d,.]*(e-?\d+)?", "#", line).split())


# ------------------------------------------------------------------------------------------------------- links resolve


def without_code(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve() -> None:
    checked = 0
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
            if re.match(r"https?:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), f"{page}: {link}"
            if anchor:
                assert anchor in anchors_of(target.resolve().relative_to(ROOT.resolve()).as_posix()), f"{page}: {link}"
            checked += 1
    assert checked > 50


def test_every_page_is_in_the_index() -> None:
    index = text_of("docs/README.md")
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} == set(
        re.findall(r"\((\w+\.md)\)", index)
    )


# --------------------------------------------------------------------------------------------- nothing is undocumented


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in cli.make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def test_commands_page_has_every_command_and_option() -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text_of("docs/commands.md"), re.MULTILINE | re.DOTALL))
    parsers = commands()
    assert parsers.keys() == sections.keys() - {"Reading"}
    reading = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", sections["Reading"]))
    for name, parser in parsers.items():
        options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
        documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", sections[name]))
        documented |= reading if "(#reading)" in sections[name] else set()
        assert documented == options, f"docs/commands.md, {name}"


def sentence(docstring: ast.stmt) -> str:
    assert isinstance(docstring, ast.Expr)
    return " ".join(ast.literal_eval(docstring.value).split())


def assert_rows(page: str, rows: list[str]) -> None:
    absent = [row for row in rows if row not in text_of(page).splitlines()]
    assert not absent, "\n".join([f"{page}: expected these rows in its table:", *absent])


def test_training_page_has_every_field_and_preset() -> None:
    from neuralcf.training import TRAINERS, TrainConfig

    rows, presets = [], []
    for record in (TrainConfig, *(trainer.config for trainer in TRAINERS.values())):
        (tree,) = ast.parse(inspect.getsource(record)).body
        assert isinstance(tree, ast.ClassDef)
        documentation = {
            ast.unparse(at.target): after
            for at, after in itertools.pairwise(tree.body)
            if isinstance(at, ast.AnnAssign)
        }
        fields = [field for field in dataclasses.fields(record) if field.default is not dataclasses.MISSING]
        rows += [
            f"| `{field.name}` | `{field.default!r}` | {sentence(documentation[field.name])} |" for field in fields
        ]
    for trainer in TRAINERS.values():
        for name, preset in trainer.presets.items():
            presets.append(f"| `{name}` | {', '.join(f'{key} {value}' for key, value in preset.items())} |")
    assert len(rows) > 20
    assert len(presets) > 5
    assert_rows("docs/training.md", rows + presets)


def test_serving_page_has_every_method_and_argument() -> None:
    page, checked = text_of("docs/serving.md"), 0
    for owner in (neuralcf.Scorer, neuralcf.Recommender):
        for name in (name for name in dir(owner) if not name.startswith("_")):
            member = getattr(owner, name)
            arguments = set(inspect.signature(member).parameters) - {"self"} if callable(member) else set()
            for word in {name, *arguments}:
                assert re.search(rf"\b{word}\b", page), f"docs/serving.md: {owner.__name__}.{name}: {word}"
                checked += 1
    assert checked > 50


def test_public_names_are_mentioned() -> None:
    from neuralcf import baselines, convert, data, evaluation, models, training
    from neuralcf.training import losses

    pages = "\n".join(text_of(page) for page in PAGES if page.startswith("docs/"))
    for module in (neuralcf, baselines, convert, data, evaluation, losses, models, training):
        for name in module.__all__:
            assert re.search(rf"\b{name}\b", pages), f"docs: {module.__name__}.{name}"


def test_rust_page_has_every_public_name() -> None:
    page = text_of("docs/rust.md")
    source = text_of("rust/lib.rs") + text_of("rust/format/mod.rs")
    exported = re.findall(r"^pub use [\w:]+::\{?([\w, ]+)\}?;", source, re.MULTILINE)
    names = [name.strip() for part in exported for name in part.split(",")]
    names += re.findall(r"^pub mod (\w+);", source, re.MULTILINE)
    assert len(names) > 25
    assert not [name for name in names if not re.search(rf"\b{name}\b", page)]
