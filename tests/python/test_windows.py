"""The package works without what Windows lacks: modules and functions of POSIX, locks, directories held open."""

import subprocess
import sys
from pathlib import Path

AS_WINDOWS = """
import importlib, os, pkgutil, signal, sys, types
import numpy, pathlib, shutil, socket, subprocess, tempfile, uuid  # they choose by the true system
optional = {}
for name in ("torch", "pandas", "polars", "pyarrow", "matplotlib", "optuna", "scipy.sparse",
             "starlette.applications", "uvicorn.protocols.http.httptools_impl", "prometheus_client"):
    try:
        optional[name] = importlib.import_module(name)
    except ModuleNotFoundError:
        pass

absent = {"fcntl", "grp", "pwd", "resource", "termios", "pty", "syslog"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for name in absent:
    sys.modules.pop(name, None)
for name in ("fork", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "getuid", "geteuid", "mkfifo",
             "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "killpg", "setsid", "sysconf"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "setitimer", "pthread_kill", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
locked = []
sys.modules["msvcrt"] = types.SimpleNamespace(locking=lambda *arguments: locked.append(arguments), LK_NBLCK=2)
sys.platform = "win32"

import neuralcf
from neuralcf.files import try_lock, write_atomically
imported = 0
for module in pkgutil.walk_packages(neuralcf.__path__, "neuralcf."):
    if module.name == "neuralcf.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name not in absent and error.name.partition(".")[0] not in optional, error
        continue
    imported += 1

place = pathlib.Path(sys.argv[1])
f32 = numpy.float32
tensors = {
    "gmf.user_embedding.weight": numpy.ones((2, 3), f32),
    "gmf.item_embedding.weight": numpy.ones((4, 3), f32),
    "output.weight": numpy.ones((1, 3), f32),
    "output.bias": numpy.ones(1, f32),
}
neuralcf.save(tensors, place / "model", kind="gmf", ids=([7, 8], list("abcd")))
neuralcf.save(tensors, place / "one.safetensors", kind="gmf")
neuralcf.save(tensors, place / "one.safetensors", kind="gmf")
for content in (b"one", b"two"):
    write_atomically(place / "text", content)
assert neuralcf.Recommender.load(place / "model").recommend(7, 4, exclude_seen=False).ids.tolist() == list("abcd")
with open(place / "text", "rb") as file:
    assert try_lock(file.fileno())
assert locked and (place / "text").read_bytes() == b"two"
assert sorted(entry.name for entry in place.iterdir()) == ["model", "one.safetensors", "text"]
from neuralcf.cli import main
assert main(["doctor"]) == 0
assert main(["inspect", str(place / "model"), "--verify"]) == 0
print(imported, "modules imported")
"""


def test_the_package_works_without_posix(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AS_WINDOWS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1].split()[0]) > 30
