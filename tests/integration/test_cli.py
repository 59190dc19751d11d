"""scripts/rag against a running API: what an operator and a tenant do from a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from functions.query.app import create_app
from scripts import rag
from shared.client import Ragzero
from tests.support.api import serving
from tests.support.installation import Installation

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """run("admin", "tenant", "ls"): (exit status, what was printed)."""
    monkeypatch.setenv("RAGZERO_API_KEY", installation.api_key)
    monkeypatch.setenv("RAGZERO_ADMIN_KEY", installation.admin_key)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rag", *arguments])
        status = rag.main()
        printed = capsys.readouterr()
        return status, printed.out if status == 0 else printed.err

    with serving(create_app(installation.query_settings(), installation.embedder)) as url:
        monkeypatch.setenv("RAGZERO_API_URL", url)
        yield run


def test_a_tenant_and_its_keys_from_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, printed = run("admin", "tenant", "create", "acme", "--budget-usd", "20", "--streams", "4")
    tenant = printed.strip()
    assert status == 0
    assert "budget_usd 20" in run("admin", "tenant", "ls")[1]
    scopes = ["--scope", "query", "--scope", "ingest"]
    status, printed = run("admin", "key", "create", tenant, "app", *scopes, "--acl", "hr", "--ttl-days", "9")
    key = printed.strip()
    assert key.startswith("rz_local_")
    listed = run("admin", "key", "ls", "--tenant", tenant)[1]
    assert "hr" in listed
    assert key.split("_")[3] not in listed
    with monkeypatch.context() as patched:
        patched.setenv("RAGZERO_API_KEY", key)
        assert run("ls")[0] == 0
        assert "lacks the scope" in run_as_admin(run, patched, key)
        assert run("admin", "key", "revoke", key.split("_")[2])[0] == 0
        assert "API key" in run("ls")[1]
    status, printed = run("admin", "tenant", "close", tenant, "--confirm", "acne")
    assert (status, "409" in printed) == (1, True)
    status, printed = run("admin", "tenant", "close", tenant, "--confirm", "acme")
    assert (status, "closed acme" in printed) == (0, True)


def run_as_admin(run: Run, patched: pytest.MonkeyPatch, key: str) -> str:
    with patched.context() as once:
        once.setenv("RAGZERO_ADMIN_KEY", key)
        return run("admin", "tenant", "ls")[1]


def test_documents_from_a_terminal(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their names, too; what is typed wrong is said in words, and nothing is deleted before all of it is known."""
    (tmp_path / "a.txt").write_text("The ferry leaves at seven.")
    with Ragzero(os.environ["RAGZERO_API_URL"], os.environ["RAGZERO_API_KEY"]) as rag:
        rag.begin_uploads([{"name": "notes/a.txt", "size": 26}])
    assert "notes/a.txt" in run("ls")[1]
    for typed, told in (
        (["ask", "When?", "--filter", "{bad"], "not JSON"),
        (["ask", "When?", "--filter", "[]"], "a JSON object"),
        (["add", str(tmp_path), "--meta", "year"], "NAME=VALUE"),
    ):
        with pytest.raises(SystemExit):
            run(*typed)
        assert told in capsys.readouterr().err
    assert run("add", str(tmp_path / "nowhere")) == (1, f"rag: {tmp_path / 'nowhere'}: no such file\n")
    assert "there is no document b.txt" in run("rm", "notes/a.txt", "b.txt")[1]
    assert run("ask", "When does it leave?", "--mode", "fast")[0] == 2  # not found: it was never uploaded
    assert run("rm", "notes/a.txt") == (0, "deleted notes/a.txt\n")
    assert "notes/a.txt" not in run("ls")[1]


def test_a_collection_from_a_terminal(run: Run, installation: Installation) -> None:
    assert run("collection", "create", "ferries", "--chunk-tokens", "60")[0] == 0
    installation.put("a.txt", "The ferry leaves at seven.", {"collection": "ferries"})
    installation.deliver()
    listed = run("collection", "ls")[1]
    assert "60 + 10" in listed
    assert "as usual" in listed
    status, printed = run("collection", "rm", "ferries")
    assert (status, "deleted ferries, 1 documents" in printed) == (0, True)
    assert "no collection" in run("collection", "rm", "ferries")[1]
