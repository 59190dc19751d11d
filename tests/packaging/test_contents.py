"""What is in the packages, and what is not."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from scripts.packaging.__main__ import main
from scripts.packaging.build import Package, build, table
from scripts.packaging.layers import Target
from scripts.packaging.recipes import ARCHITECTURES, MB, MOST_MB, RECIPES, Recipe

pytestmark = pytest.mark.timeout(600)  # making the packages takes a while the first time
ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(RECIPES)
# What would give away a package that was made of too much.
STRANGERS = {"hf_xet", "huggingface_hub", "ministack", "modal", "mypy", "nvidia", "pip", "pytest", "torch"}


def contents(package: Package) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(package.path) as archive:
        return {entry.filename: entry for entry in archive.infolist()}


def test_each_is_within_its_budget_and_each_budget_within_lambdas(packages: Mapping[str, Package]) -> None:
    print(table(list(packages.values())))
    for package in packages.values():
        assert package.unzipped <= package.budget <= MOST_MB * MB, package.name
        assert package.unzipped == sum(entry.file_size for entry in contents(package).values())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_another_function_no_test_no_stranger(packages: Mapping[str, Package], name: str) -> None:
    inside = contents(packages[name])
    functions = {path.split("/")[1] for path in inside if path.startswith("functions/")}
    assert functions - {"__init__.py", "__pycache__"} == {RECIPES[name].folder}
    assert {path.partition("/")[0] for path in inside} & STRANGERS == set()
    assert [path for path in inside if "/tests/" in path or path.endswith((".pyi", ".so.dbg"))] == []
    assert {
        path.split("/")[2] for path in inside if path.startswith("botocore/data/") and path.count("/") > 2
    } == set(RECIPES[name].aws)


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_of_this_machine(packages: Mapping[str, Package], name: str) -> None:
    """Nothing hidden, no key, no address of a database: the source and the distributions, and that is all."""
    assert [path for path in contents(packages[name]) if path.startswith(".") or "/." in path] == []
    with zipfile.ZipFile(packages[name].path) as archive:
        own = [path for path in archive.namelist() if path.startswith(("functions/", "shared/"))]
        text = b"".join(archive.read(path) for path in own)
    for sign in (b"BEGIN PRIVATE KEY", b"AKIA", b"postgresql://ragzero_"):
        assert sign not in text


@pytest.mark.parametrize("name", NAMES)
def test_every_module_has_bytecode_that_is_believed_unseen(
    packages: Mapping[str, Package], name: str
) -> None:
    """Without it each cold start would compile anew; with time stamps it would not be believed."""
    inside = contents(packages[name])
    modules = [path for path in inside if path.endswith(".py")]
    with zipfile.ZipFile(packages[name].path) as archive:
        flags = {
            path: int.from_bytes(archive.read(path)[4:8], "little")
            for path in inside
            if path.endswith(".pyc")
        }
    hash_based_and_unchecked = 0b01
    assert set(flags.values()) == {hash_based_and_unchecked}
    compiled = {path.replace("__pycache__/", "").partition(".cpython-")[0] + ".py" for path in flags}
    assert compiled == set(modules)


def test_the_same_source_makes_the_same_bytes(
    tmp_path: Path, packages: Mapping[str, Package], target: Target
) -> None:
    """Everything anew, elsewhere: installed, pruned, compiled, packed."""
    again = build("reindex", target, tmp_path, cache=tmp_path / "layers")
    assert again.sha256 == packages["reindex"].sha256
    code = {name: entry for name, entry in contents(again).items() if name.startswith("functions/")}
    assert {entry.date_time for entry in code.values()} == {(1980, 1, 1, 0, 0, 0)}


def test_both_processors_differ_in_compiled_code_only(
    tmp_path: Path, packages: Mapping[str, Package], target: Target
) -> None:
    other = next(arch for arch in ARCHITECTURES if arch != target.arch)
    theirs = contents(build("reindex", replace(target, arch=other), tmp_path))
    ours = contents(packages["reindex"])
    source = {name: entry.CRC for name, entry in ours.items() if name.endswith((".py", ".sql", ".lua"))}
    assert {name: theirs[name].CRC for name in source} == source
    assert [name for name in theirs if "x86_64" in name and ".so" in name] == [] or other == "x86_64"


@pytest.mark.parametrize("name", NAMES)
def test_what_terraform_starts_is_in_the_package(packages: Mapping[str, Package], name: str) -> None:
    stack = ROOT / "infra" / "terraform" / "stacks" / "app"
    named = re.search(
        rf'(?m)^    {name} += "(functions\.[\w.]+|run\.sh)"', (stack / "functions.tf").read_text()
    )
    assert named is not None
    inside = contents(packages[name])
    if named[1] == "run.sh":
        assert inside["run.sh"].external_attr >> 16 & 0o777 == 0o755
    else:
        assert named[1].rpartition(".")[0].replace(".", "/") + ".py" in inside
    assert '"/var/task/model"' in (stack / "settings.tf").read_text()
    assert ("model/model.onnx" in inside) == RECIPES[name].model


def test_a_package_over_its_budget_fails_the_build(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cast(dict[str, Recipe], RECIPES), "reindex", replace(RECIPES["reindex"], budget_mb=1))
    asked = ["reindex", "--arch", target.arch, "--python", target.python, "--out", str(tmp_path)]
    assert main(asked) == 1
    assert "reindex is over its budget" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "named"),
    [(["--python", "2.6"], "--python"), (["--model", "/nowhere"], "--model"), (["nobody"], "nobody")],
)
def test_what_cannot_be_built_is_named(
    asked: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main([*asked, "--out", str(tmp_path)])
    except SystemExit as refused:
        code = int(str(refused.code))
    assert code > 0
    assert named in capsys.readouterr().err
