"""The Python client's wheel."""

from __future__ import annotations

from pathlib import Path

from scripts.packaging.toolchain import ROOT, uv
from shared.core.errors import ConfigurationError

SOURCE = ROOT / "shared" / "client"


def build_client(out: Path) -> Path:
    """The wheel in the folder out; the same, byte for byte, whenever it is made."""
    done = uv("build", "--wheel", "--no-config", "--out-dir", str(out), str(SOURCE))
    if done.returncode != 0:
        raise ConfigurationError(str(SOURCE), f"uv could not build it:\n{done.stderr}")
    [wheel] = out.glob("*.whl")
    return wheel
