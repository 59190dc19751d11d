"""The client's wheel where nothing else of ours is: in an environment of its own, against a live API."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from functions.query.app import create_app
from scripts.packaging.client import SOURCE, build_client
from scripts.packaging.toolchain import uv
from tests.support.api import serving
from tests.support.installation import Installation

QUESTION = "Who built the lighthouse?"
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from ragzero_client import AsyncRagzero, Ragzero

url, key, question, file = sys.argv[1:]

async def streamed():
    async with AsyncRagzero(url, key) as rag:
        return [event["event"] async for event in rag.stream(question)][-1]

with Ragzero(url, key) as rag:
    job = rag.upload([Path(file)], timeout=0)
    print(json.dumps([rag.ask(question)["answer"], asyncio.run(streamed()), job["total"]]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("wheel"))


def test_it_holds_the_client_and_asks_for_httpx_alone(wheel: Path) -> None:
    sources = {f"ragzero_client/{path.name}" for path in (*SOURCE.glob("*.py"), SOURCE / "py.typed")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [about] = [name for name in names if name.endswith(".dist-info/METADATA")]
        needs = re.findall(r"^Requires-Dist: ([\w-]+)", archive.read(about).decode(), re.MULTILINE)
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert needs == ["httpx"]
    assert not [path.name for path in SOURCE.iterdir() if path.name.endswith((".egg-info", "build"))]


def test_it_works_where_nothing_else_of_ours_is(
    wheel: Path, installation: Installation, tmp_path: Path
) -> None:
    installation.put("light.txt", "The lighthouse was built in 1911 by Ada Lindqvist.")
    installation.deliver()
    folder = tmp_path / "venv"
    python = str(folder / "bin" / "python")
    for command in (("venv", str(folder)), ("pip", "install", "--python", python, str(wheel))):
        done = uv(*command)
        assert done.returncode == 0, done.stderr
    file = tmp_path / "more.txt"
    file.write_text("More.")
    with serving(create_app(installation.query_settings(), installation.embedder)) as url:
        given = (url, installation.api_key, QUESTION, str(file))
        done = subprocess.run(
            [python, "-I", "-c", PROGRAM, *given], capture_output=True, text=True, check=False, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    answer, last, files = json.loads(done.stdout)
    assert "Ada Lindqvist" in answer
    assert (last, files) == ("done", 1)
