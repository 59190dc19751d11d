"""The programs a package is made with: uv, and a Python of the version that will run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from scripts.packaging.recipes import PLATFORMS, Architecture
from shared.core.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
TASK_ROOT = "/var/task"
"""Where Lambda unpacks a package."""


@cache
def interpreter(version: str) -> Path:
    """A Python of that version on this machine. Raises ConfigurationError when there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    found = uv("python", "find", "--no-project", "--no-python-downloads", version)
    if found.returncode != 0:
        problem = f"no Python {version} on this machine; try `uv python install {version}`, or name another"
        raise ConfigurationError("--python", problem)
    return Path(found.stdout.strip())


def install(requirements: Path, target: Path, arch: Architecture, version: str) -> None:
    """The wheels that the file names with their hashes, for Lambda, into a folder."""
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-config"]
    where = ["--python", sys.executable, "--python-version", version, "--python-platform", PLATFORMS[arch]]
    done = uv("pip", "install", "--target", str(target), *options, *where, "-r", str(requirements))
    if done.returncode != 0:
        raise ConfigurationError(str(requirements), f"uv could not install it:\n{done.stderr}")


def compile_bytecode(folder: Path, version: str) -> None:
    """A .pyc beside each module, believed unseen at run time, and the same whenever and wherever it is made."""
    rule = ["--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", TASK_ROOT]
    subprocess.run(
        [interpreter(version), "-I", "-m", "compileall", "-q", *rule, "."],
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
        check=True,
    )


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What it said. pyenv's Pythons count as installed, and so do wheels of PIP_FIND_LINKS."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    kept = [path.parent for path in sorted(pyenv.glob("versions/*/bin/python"))]
    path = os.pathsep.join([os.environ["PATH"], str(ROOT / ".venv-uv" / "bin"), *map(str, kept)])
    program = shutil.which("uv", path=path)
    if program is None:
        raise ConfigurationError("uv", "the program is not installed; scripts/install brings it")
    links = os.environ.get("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))
    environment = {**os.environ, "PATH": path, "UV_FIND_LINKS": links}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
