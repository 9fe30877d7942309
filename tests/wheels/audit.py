"""Audit the wheels given: their oldest glibc, the stable ABI, crates (SBOM), licences, and no path of the machine."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = "manylinux_2_17"


def run(*command: str) -> str:
    """Run a program of this environment; fail with its output if it fails."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def audit(wheel: Path) -> str:
    """Audit a wheel; return a line about it.

    Raises:
        SystemExit: the wheel is not as it should be.
    """

    def expect(what: str, holds: bool, got: object) -> None:
        if not holds:
            sys.exit(f"{wheel.name}: expected {what}, got {got}")

    python, abi = wheel.stem.split("-")[2:4]
    expect("the stable ABI from CPython 3.10 on", (python, abi) == ("cp310", "abi3"), f"{python}-{abi}")
    shown = run("auditwheel", "show", str(wheel))
    consistent = re.search(r'consistent with\s+the following platform tag:\s+"(\w+)"', shown)
    expect(f"symbols of {OLDEST} or older", consistent is not None and consistent[1].startswith(OLDEST), shown)
    run("abi3audit", "--strict", str(wheel))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        extension = archive.read("neuralcf/_core.abi3.so")
        for path in (Path.home(), ROOT):
            expect("no path of the machine in the extension", bytes(path) not in extension, path)
        licences = [name for name in names if ".dist-info/licenses/" in name]
        expect("both files of licences", len(licences) == 2, licences)
        listed = archive.read(next(name for name in licences if name.endswith("licences.txt"))).decode()
        sboms = [name for name in names if ".dist-info/sboms/" in name]
        expect("an SBOM", len(sboms) == 1, sboms)
        components = json.loads(archive.read(sboms[0]))["components"]
        crates = [f"{each['name']} {each['version']}" for each in components if not each["name"].startswith("neuralcf")]
        missing = [crate for crate in crates if f"    {crate} " not in listed]
        expect("the licence of each crate of the SBOM", len(crates) > 10 and not missing, missing)
        size = sum(each.file_size for each in archive.infolist())
    sizes = f"{wheel.stat().st_size / 1e6:.1f} MB, {size / 1e6:.1f} MB installed"
    return f"{wheel.name}: {consistent[1]}, {len(crates)} crates, {sizes}"


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("expected wheels, got none")
    for argument in sys.argv[1:]:
        print(audit(Path(argument)))
