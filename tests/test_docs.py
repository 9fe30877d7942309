"""Every Python block of the Markdown pages runs, in a folder where `model/` is a small model."""

import re
from pathlib import Path

import numpy as np
import pytest

import neuralcf

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in {"target", "build", "dist"} for part in page.relative_to(ROOT).parts)
)
BLOCKS = [
    (page.relative_to(ROOT).as_posix(), block)
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]


def test_pages_with_blocks_were_found() -> None:
    assert "README.md" in {page for page, _ in BLOCKS}


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}-{n}" for n, (page, _) in enumerate(BLOCKS)])
def test_block_runs(page: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    users, items, rng = 50, 40, np.random.default_rng(0)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((users, 3), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((items, 3), dtype=np.float32),
        "output.weight": np.ones((1, 3), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    seen = (np.arange(users + 1), np.arange(users) % items)
    neuralcf.save(tensors, "model", kind="gmf", ids=(np.arange(users), np.arange(items)), seen=seen)
    exec(compile(block, page, "exec"), {})
