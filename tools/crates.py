"""Write what wheels carry about the crates that the extension is built from: their licences, and a list of them (SBOM).

    python tools/crates.py            writes rust/python/licences.txt and rust/python/sbom.cdx.json
    python tools/crates.py --check    fails if they are not what they should be

The crates are those of Cargo.lock for any platform, without what only tests, benchmarks and build scripts need. The
list is CycloneDX 1.5. It names no time and no path, so that equal sources give equal wheels.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LICENCES = ROOT / "rust/python/licences.txt"
SBOM = ROOT / "rust/python/sbom.cdx.json"
EXTENSION = "neuralcf-python"
ALLOWED = {"Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "MIT", "Unicode-3.0", "Zlib"}
"""Licences whose terms are met by carrying their text."""
LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
RULE = "=" * 100

Package = dict[str, Any]


def read_crates() -> list[tuple[Package, list[Package]]]:
    """Read the packages that the extension is built from, by name and version, each with those that it depends on."""
    command = ["cargo", "metadata", "--format-version=1", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    edges = {
        node["id"]: [edge["pkg"] for edge in node["deps"] if any(kind["kind"] is None for kind in edge["dep_kinds"])]
        for node in metadata["resolve"]["nodes"]
    }
    reached: set[str] = set()
    remaining = [id_ for id_, package in packages.items() if package["name"] == EXTENSION]
    while remaining:
        if (id_ := remaining.pop()) not in reached:
            reached.add(id_)
            remaining += edges[id_]
    found = [(packages[id_], [packages[other] for other in edges[id_]]) for id_ in reached]
    return sorted(found, key=lambda each: purl(each[0]))


def purl(package: Package) -> str:
    """Give the package URL of a crate."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def is_allowed(expression: str) -> bool:
    """Tell whether we can comply with a licence expression, such as `(MIT OR Apache-2.0) AND Unicode-3.0`."""
    clauses = [clause.strip("()").split(" OR ") for clause in expression.split(" AND ")]
    return all(ALLOWED & {licence.strip() for licence in clause} for clause in clauses)


def licence_of(package: Package) -> str:
    """Give the licence expression of a crate; older ones write `MIT/Apache-2.0`."""
    return str(package["license"]).replace("/", " OR ")


def licence_files(package: Package) -> list[Path]:
    """List the licence files of a crate; of a choice that has MIT, without Apache-2.0, which is long."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.name.upper().startswith(LICENCE_FILES) and path.is_file())
    if any("MIT" in path.name.upper() for path in files):
        files = [path for path in files if "APACHE" not in path.name.upper()]
    return files


def licences(crates: list[Package]) -> str:
    """Compose the file of licences.

    Raises:
        SystemExit: a crate without a licence that we can comply with, or without its text.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    lines = [
        "The compiled extension of neuralcf contains Rust's standard library (MIT OR Apache-2.0) and these crates,",
        "each under the licence that it names. Of a choice between MIT and Apache-2.0, only MIT's text is here.",
        "",
    ]
    for package in crates:
        title = f"{package['name']} {package['version']}"
        if not is_allowed(licence_of(package)):
            sys.exit(f"{title}: expected a licence among {', '.join(sorted(ALLOWED))}, got {package['license']}")
        files = licence_files(package)
        if not files:
            sys.exit(f"{title}: expected the text of its licence in the crate, got none")
        lines.append(f"    {title:28} {licence_of(package)}")
        for path in files:
            content = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").strip("\n").splitlines())
            texts[content].append(f"{title} ({path.name})")
    for content, titles in texts.items():
        lines += ["", RULE, *titles, RULE, "", content]
    return "\n".join(lines) + "\n"


def sbom(crates: list[tuple[Package, list[Package]]]) -> str:
    """Compose the list of crates, CycloneDX 1.5, with the checksums of Cargo.lock."""
    locked = re.findall(
        r'name = "(.+)"\nversion = "(.+)"\nsource = .*\nchecksum = "(.+)"', (ROOT / "Cargo.lock").read_text()
    )
    checksums = {(name, version): checksum for name, version, checksum in locked}

    def component(package: Package) -> dict[str, Any]:
        described = {
            "type": "library",
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": licence_of(package)}],
            "purl": purl(package),
        }
        checksum = checksums.get((package["name"], package["version"]))
        return described if checksum is None else {**described, "hashes": [{"alg": "SHA-256", "content": checksum}]}

    described = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": next(component(package) for package, _ in crates if package["name"] == EXTENSION)},
        "components": [component(package) for package, _ in crates if package["name"] != EXTENSION],
        "dependencies": [
            {"ref": purl(package), "dependsOn": sorted(purl(other) for other in others)} for package, others in crates
        ],
    }
    return json.dumps(described, indent=1) + "\n"


def main() -> None:
    """Write the files, or check them."""
    crates = read_crates()
    foreign = [package for package, _ in crates if package["source"] is not None]
    for file, wanted in ((LICENCES, licences(foreign)), (SBOM, sbom(crates))):
        if sys.argv[1:] != ["--check"]:
            file.write_text(wanted, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != wanted:
            sys.exit(f"{file}: the crates have changed; run `python tools/crates.py`")


if __name__ == "__main__":
    main()
