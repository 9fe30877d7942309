"""Build the documentation site: the repository's pages, linked sources, and the API reference from docstrings.

    python tools/site.py build/site

Pages keep their paths, so that their links hold. A linked source file becomes a page that shows it. Whatever Zensical
warns of, such as a link or an anchor that leads nowhere, is an error. The site lies in build/site/html.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md")),
]
NAVIGATION = {
    "Start": ["README.md", "docs/README.md", "docs/tutorial.md"],
    "Train": ["docs/data.md", "docs/training.md", "docs/models.md", "docs/protocols.md", "docs/commands.md"],
    "Serve": ["docs/serving.md", "docs/refusals.md", "docs/format.md", "docs/rust.md"],
    "From other libraries": ["docs/converting.md"],
    "Clusters": ["docs/spark.md", "docs/ray.md"],
}
"""Pages by part; pages in no part stand under "More"."""
API = {
    "api/neuralcf.md": ("neuralcf", None),
    "api/convert.md": ("neuralcf.convert", "neuralcf.convert"),
    "api/spark.md": ("neuralcf.batch.spark", "neuralcf.batch.spark"),
    "api/ray.md": ("neuralcf.batch.ray", "neuralcf.batch.ray"),
    "api/shards.md": ("neuralcf.batch.shards", "neuralcf.batch.shards"),
    "api/training.md": ("neuralcf.training", "neuralcf.training"),
}
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[#)])")
"""The path of a link or image in Markdown, to a file of the repository."""
CODE_OR_REFERENCE = re.compile(r"`[^`]*`|\]\[(?=\d+\])")
"""Code, or what Markdown would take for a reference though it is an index, as in items[0][1]."""


def main() -> None:
    """Write the pages, and let Zensical build them."""
    out = Path(sys.argv[1]).resolve()
    shutil.rmtree(out, ignore_errors=True)
    staged = out / "pages"
    waiting = list(PAGES)
    done: set[str] = set()
    while waiting:
        page = waiting.pop()
        if page in done:
            continue
        done.add(page)
        text = (ROOT / page).read_text(encoding="utf-8")
        waiting += stage(page, text, staged)
    for page, (title, module) in API.items():
        write(staged / page, f"# {title}\n\n" + (f"::: {module}\n" if module else public_names()))
    configure(out, sorted(page for page in done if page.endswith(".md")))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=out, check=True)
    pages = list((out / "html").rglob("*.html"))
    assert len(pages) > 20, f"expected a site, got {len(pages)} pages"
    print(f"{len(pages)} pages: {out / 'html' / 'index.html'}")


def stage(page: str, text: str, staged: Path) -> list[str]:
    """Write a page; return the pages that it links to."""
    linked = []

    def follow(match: re.Match[str]) -> str:
        target = (ROOT / page).parent / match[1]
        path = target.resolve().relative_to(ROOT).as_posix()
        if not target.exists():
            raise SystemExit(f"{page}: a link to {match[1]}, which does not exist")
        if target.suffix == ".md":
            linked.append(path)
            return match[1]
        if target.suffix in (".svg", ".png"):
            write(staged / path, target.read_bytes())
            return match[1]
        if target.is_dir():
            listed = "\n".join(
                f"- [{each.name}]({each.name}.md)" for each in sorted(target.iterdir()) if each.is_file()
            )
            for each in sorted(target.iterdir()):
                if each.is_file():
                    write(staged / f"{path}/{each.name}.md", as_page(each))
            write(staged / path / "index.md", f"# {path}\n\n{listed}\n")
            return f"{match[1].rstrip('/')}/index.md"
        shown = path.removeprefix(".")  # the site has no hidden folders
        write(staged / f"{shown}.md", as_page(target))
        return f"{match[1].replace(path, shown)}.md"

    text = CODE_OR_REFERENCE.sub(lambda match: "]\\[" if match[0] == "][" else match[0], LINK.sub(follow, text))
    write(staged / page, text)
    return linked


def as_page(source: Path) -> str:
    """Show a source file as a page."""
    language = {".py": "python", ".rs": "rust", ".toml": "toml", ".yml": "yaml"}.get(source.suffix, "text")
    return f"# {source.name}\n\n`````{language}\n{source.read_text(encoding='utf-8')}`````\n"


def public_names() -> str:
    """The directives for all names of the package, and of the compiled module from its stub."""
    text = (ROOT / "python/neuralcf/__init__.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "(\w+)",$', text.split("__all__ = [")[1].split("]")[0], re.MULTILINE)
    return "\n\n".join(f"::: neuralcf.{name}" for name in names if name not in ("__version__", "training"))


def configure(out: Path, pages: list[str]) -> None:
    """Write mkdocs.yml."""
    import json

    named = {page for part in NAVIGATION.values() for page in part}
    navigation: list[dict[str, object]] = [{part: listed} for part, listed in NAVIGATION.items()]
    navigation.append({"API": [{title: page} for page, (title, _) in API.items()]})
    navigation.append({"More": [page for page in pages if page not in named]})
    settings = {
        "site_name": "NeuralCF",
        "docs_dir": "pages",
        "site_dir": "html",
        "use_directory_urls": False,
        "nav": navigation,
        "theme": {
            "name": "material",
            "font": False,
            "features": ["navigation.tabs", "navigation.top", "content.code.copy", "search.highlight"],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default", "primary": "indigo"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate", "primary": "indigo"},
            ],
        },
        "markdown_extensions": [
            "tables",
            "toc",
            "pymdownx.superfences",
            "pymdownx.highlight",
            {"pymdownx.arithmatex": {"generic": True}},
        ],
        "plugins": [
            "search",
            {
                "mkdocstrings": {
                    "handlers": {
                        "python": {
                            "paths": [str(ROOT / "python")],
                            "options": {
                                "docstring_style": "google",
                                "show_source": False,
                                "show_root_heading": True,
                                "heading_level": 2,
                                "members_order": "source",
                                "merge_init_into_class": True,
                            },
                        }
                    }
                }
            },
        ],
    }  # JSON is YAML
    (out / "mkdocs.yml").write_text(json.dumps(settings, indent=1), encoding="utf-8")


def write(path: Path, content: str | bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


if __name__ == "__main__":
    main()
