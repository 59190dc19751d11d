"""Question sets asked in the active space: measured, kept, compared, exported; by the commands people use."""

from __future__ import annotations

import io
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from scripts import rag
from scripts.rag_eval import read
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.sweeping import work_off

Run = Callable[..., tuple[int, str]]
TEXTS = {
    "cranes.txt": "The harbour crane lifts forty tonnes. It was built in Gdansk.",
    "lights.txt": "The lighthouse keeper lights the lamp at dusk, every day of the year.",
    "bread.txt": "Bread is baked before dawn, with rye flour from the mill.",
}
QUESTIONS = """# what the town asks
{"question": "How many tonnes does the harbour crane lift?", "documents": ["cranes.txt"], "answer": "forty tonnes"}

{"question": "When does the lighthouse keeper light the lamp?", "documents": ["lights.txt"], "answer": ["at dusk", "dusk"]}
{"question": "Which flour is the bread baked with?", "documents": ["cranes.txt"], "answer": "wheat"}
"""


@pytest.fixture
def town(installation: Installation) -> Installation:
    for key, text in TEXTS.items():
        installation.put(key, text)
    work_off(installation)
    return installation


@pytest.fixture
def run(town: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("RAGZERO_ADMIN_KEY", town.admin_key)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rag", "eval", *arguments])
        monkeypatch.setattr(rag.console, "_width", 300)
        printed = io.StringIO()  # of no fixture: loggers made meanwhile keep it
        with redirect_stdout(printed), redirect_stderr(printed):
            status = rag.main()
        return status, printed.getvalue()

    with serving(client(town).app) as url:
        monkeypatch.setenv("RAGZERO_API_URL", url)
        yield run


def test_a_file_of_questions_is_measured_kept_exported_and_compared(
    town: Installation, run: Run, tmp_path: Path
) -> None:
    asked, out = tmp_path / "town.jsonl", tmp_path / "run.json"
    asked.write_text(QUESTIONS)
    status, printed = run("run", str(asked), "--out", str(out), "-k", "1")
    assert status == 0, printed
    exported = json.loads(out.read_text())
    summary = exported["summary"]
    assert (summary["questions"], summary["judged"], summary["k"]) == (3, 3, 1)
    assert summary["recall"] == summary["mrr"] == summary["ndcg"] == pytest.approx(2 / 3, abs=1e-6)
    assert summary["answer_contained"] == summary["citation_precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert summary["latency_p95_ms"] > 0
    assert exported["space_id"] == 1
    assert [len(one["found"]) for one in exported["questions"]] == [1, 1, 0]
    kept = town.rows("select summary from evaluations")
    assert kept == [{"summary": summary}]

    town.put("cranes.txt", "Nothing is said of what was lifted.")
    work_off(town)
    assert run("run", str(asked), "-k", "1")[0] == 0
    status, printed = run("compare", "1", "2")
    assert (status, "worse by more than 0.02: answer_contained" in printed) == (2, True), printed
    assert run("compare", "2", "1")[0] == 0
    status, printed = run("ls")
    assert (status, printed.count("town.jsonl")) == (0, 2)


def test_runs_of_other_questions_do_not_compare(town: Installation, run: Run, tmp_path: Path) -> None:
    for number, text in enumerate(QUESTIONS.splitlines()[3:5]):
        (tmp_path / f"{number}.jsonl").write_text(text)
        assert run("run", str(tmp_path / f"{number}.jsonl"))[0] == 0
    status, printed = run("compare", "1", "2")
    assert (status, "did not ask the same questions" in printed) == (1, True)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1: Expecting property name"),
        ('{"ask": "x"}', 'expected an object with a "question"'),
        ('{"question": "x", "docs": []}', "unknown: docs"),
        ('{"question": "x", "answer": 3}', "expected a text or a list of texts, got 3"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(rag.Failure) as caught:
        read(tmp_path / "q.jsonl")
    assert complaint in str(caught.value)


def test_evaluations_are_for_admins_and_their_own_tenant(town: Installation) -> None:
    new = {"name": "x", "questions_digest": "0" * 64}
    with client(town) as admin:
        made = admin.post("/v1/evaluations", json=new).json()
        stranger = {
            "Authorization": f"Bearer {town.add_key(uuid.uuid4(), ['admin'])}",
        }
        plain = {"Authorization": f"Bearer {town.api_key}"}
        path = f"/v1/evaluations/{made['id']}"
        assert admin.get(path, headers=plain).status_code == 403
        assert admin.get(path, headers=stranger).status_code == 404
        assert admin.get("/v1/evaluations", headers=stranger).json() == []
        question = {"number": 0, "question": "How many tonnes?"}
        assert admin.post(f"{path}/questions", json=question, headers=stranger).status_code == 404
        assert admin.post(f"{path}/finish").status_code == 409


def test_a_question_asked_twice_counts_once_and_none_after_the_end(town: Installation) -> None:
    with client(town) as api:
        id = api.post("/v1/evaluations", json={"name": "x", "questions_digest": "0" * 64}).json()["id"]
        asked = {"number": 0, "question": "How many tonnes does it lift?", "documents": ["cranes.txt"]}
        for _ in range(2):
            answer = api.post(f"/v1/evaluations/{id}/questions", json=asked)
            assert answer.json()["found"] == [1], answer.text
        assert api.post(f"/v1/evaluations/{id}/finish").json()["summary"]["questions"] == 1
        assert api.post(f"/v1/evaluations/{id}/questions", json=asked).status_code == 409


def test_a_space_that_is_not_there_is_refused(town: Installation) -> None:
    with client(town) as api:
        new = {"name": "x", "questions_digest": "0" * 64, "space": 9}
        assert api.post("/v1/evaluations", json=new).status_code == 404


def test_recent_questions_can_be_asked_again(town: Installation, run: Run) -> None:
    town.rows(
        "insert into answers (id, tenant_id, request, lease_until) values (gen_random_uuid(), %s, %s, now()) returning 1",
        town.tenant,
        json.dumps({"question": "How many tonnes?", "collection": "default", "filter": None}),
    )
    status, printed = run("recent")
    assert status == 0
    assert json.loads(printed) == {"question": "How many tonnes?", "collection": "default"}


def test_a_golden_set_is_made_from_feedback(town: Installation, run: Run, tmp_path: Path) -> None:
    """By what an answer cites that was found good, or should have said; not by one that somebody else found bad."""
    lift, lamp, rye = "How many tonnes are lifted?", "Who lights the lamp?", "Which flour is it?"
    kept = {
        question: answered(town, question, key)
        for question, key in ((lift, "cranes.txt"), (lamp, "lights.txt"))
    }
    with client(town) as api:
        say = partial(feedback, api)
        say(kept[lift], {"rating": "good"})
        say(kept[lamp], {"rating": "good"})
        say(kept[lamp], {"rating": "bad", "comment": "Which lamp?"}, by=town.add_key(town.tenant, ["query"]))
        say(uuid.uuid4(), {"rating": "bad", "question": rye, "expected": " rye flour "})
        say(uuid.uuid4(), {"rating": "good", "question": "What else?"})
        told = {"question": "Who mills it?", "collection": "village", "filter": {"year": 4}}
        say(uuid.uuid4(), {"rating": "bad", "expected": "the miller", **told})
        stranger = town.add_key(uuid.uuid4(), ["admin"])
        path = "/v1/evaluations/feedback-questions"
        assert api.get(path, headers={"Authorization": f"Bearer {stranger}"}).json() == []
        assert api.get(path, headers={"Authorization": f"Bearer {town.api_key}"}).status_code == 403
    file = tmp_path / "golden.jsonl"
    assert run("golden", str(file), "--collection", "mill")[0] == 0
    made = [json.loads(line) for line in file.read_text().splitlines()]
    crane = f"s3://{town.intake.bucket}/cranes.txt"
    assert made == [
        {"answer": ["the miller"], **told},
        {"question": rye, "answer": ["rye flour"], "collection": "mill"},
        {"question": lift, "documents": [crane], "collection": "minutes", "filter": {"year": 3}},
    ]
    file.write_text(file.read_text().replace("rye flour", "rye"))
    assert "0 questions are new" in run("golden", str(file), "--collection", "mill")[1]
    assert json.loads(file.read_text().splitlines()[1])["answer"] == ["rye"], "what a person corrected stays"
    town.delete("cranes.txt")
    work_off(town)
    assert run("golden", str(tmp_path / "later.jsonl"))[0] == 0
    assert "cranes" not in (tmp_path / "later.jsonl").read_text(), "nobody is to find what is gone"


def test_when_an_answer_is_not_kept_any_more_feedback_still_tells_of_what_it_was_asked(
    town: Installation, run: Run, tmp_path: Path
) -> None:
    """The one who asked may have said something again since, knowing less than the answer did, and the last word counts."""
    lift = answered(town, "How many tonnes are lifted?", "cranes.txt")
    with client(town) as api:
        feedback(api, lift, {"rating": "good"})
        town.rows("delete from answers returning 1")
        feedback(
            api, lift, {"rating": "bad", "question": "How many?", "expected": "forty", "collection": "mill"}
        )
        (seen,) = api.get("/v1/admin/feedback", params={"tenant_id": str(town.tenant)}).json()["items"]
    assert (seen["rating"], seen["collection"], seen["filter"]) == ("bad", "minutes", {"year": 3})
    assert run("golden", str(tmp_path / "golden.jsonl"))[0] == 0
    assert json.loads((tmp_path / "golden.jsonl").read_text()) == {
        "question": "How many tonnes are lifted?",
        "answer": ["forty"],
        "collection": "minutes",
        "filter": {"year": 3},
    }


def answered(town: Installation, question: str, key: str) -> uuid.UUID:
    """An answer that is kept and cites the document."""
    request = {"question": question, "collection": "minutes", "filter": {"year": 3}}
    (row,) = town.rows(
        """insert into answers (id, tenant_id, status, request, body, lease_until)
           select gen_random_uuid(), tenant_id, 'done', %s,
                  jsonb_build_object('citations', jsonb_build_array(jsonb_build_object('document_id', id))), now()
           from documents where key = %s returning id""",
        json.dumps(request),
        key,
    )
    return uuid.UUID(str(row["id"]))


def feedback(api: TestClient, answer: uuid.UUID, said: dict[str, Any], by: str | None = None) -> None:
    headers = {"Authorization": f"Bearer {by}"} if by else {}
    assert api.post(f"/v1/answers/{answer}/feedback", json=said, headers=headers).status_code == 204
