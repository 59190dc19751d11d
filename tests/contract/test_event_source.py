"""The event source mapping and the Lambda-like parent do to handlers what Lambda does."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.local.aws import Intake, LocalAws
from scripts.local.event_source import EventSource, MappingSettings, reported_failures
from scripts.local.process import Server
from shared.core.errors import ConfigurationError
from tests.support.lambda_process import ROOT, HandlerError, Killed, LambdaProcess, TimedOut
from tests.support.waiting import until

MakeLambda = Callable[..., LambdaProcess]


class Recorder:
    """A handler that answers what it is told and keeps what it got."""

    def __init__(self, answer: Callable[[list[dict[str, Any]]], Any] = lambda _: None) -> None:
        self.answer = answer
        self.batches: list[list[dict[str, Any]]] = []
        self.contexts: list[Any] = []

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        self.batches.append(event["Records"])
        self.contexts.append(context)
        return self.answer(event["Records"])


@pytest.fixture
def sqs(aws: LocalAws) -> Any:
    return aws.client("sqs")


@pytest.fixture
def queue(intake: Intake, sqs: Any) -> str:
    """An empty queue; enabling the notification has put a test event into it."""
    sqs.purge_queue(QueueUrl=intake.queue_url)
    return intake.queue_url


def left(sqs: Any, url: str) -> tuple[int, int]:
    """(visible, in flight)"""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def send(sqs: Any, url: str, *bodies: str) -> None:
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)


def failing(*bodies: str) -> Callable[[list[dict[str, Any]]], Any]:
    def answer(records: list[dict[str, Any]]) -> Any:
        ids = [record["messageId"] for record in records if record["body"] in bodies]
        return {"batchItemFailures": [{"itemIdentifier": each} for each in ids]}

    return answer


def test_a_record_has_every_field_lambda_sends(sqs: Any, queue: str, intake: Intake) -> None:
    attribute = {"DataType": "String", "StringValue": "v"}
    sqs.send_message(QueueUrl=queue, MessageBody="hé", MessageAttributes={"a": attribute})
    handler = Recorder()
    EventSource(sqs, queue, handler).poll()
    ((record,),) = handler.batches
    assert set(record) == {
        "messageId",
        "receiptHandle",
        "body",
        "attributes",
        "messageAttributes",
        "md5OfBody",
        "eventSource",
        "eventSourceARN",
        "awsRegion",
    }
    assert (record["body"], record["eventSource"], record["awsRegion"]) == ("hé", "aws:sqs", "us-east-1")
    assert record["eventSourceARN"] == intake.queue_arn
    assert record["md5OfBody"] == hashlib.md5("hé".encode(), usedforsecurity=False).hexdigest()
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert abs(int(record["attributes"]["SentTimestamp"]) / 1000 - time.time()) < 60
    assert record["messageAttributes"]["a"]["stringValue"] == "v"


def test_the_context_counts_down_to_the_timeout(sqs: Any, queue: str) -> None:
    send(sqs, queue, "x")
    handler = Recorder(lambda _: time.sleep(0.05))
    EventSource(sqs, queue, handler, MappingSettings(function_name="f", timeout=700)).poll()
    (context,) = handler.contexts
    assert 600_000 < context.get_remaining_time_in_millis() <= 699_950
    assert context.function_name == "f"
    assert context.invoked_function_arn.endswith(":function:f")
    assert context.aws_request_id


def test_only_the_reported_messages_stay(sqs: Any, queue: str) -> None:
    send(sqs, queue, "a", "b", "c")
    assert EventSource(sqs, queue, Recorder(failing("b"))).poll() == 3
    assert left(sqs, queue) == (0, 1)


@pytest.mark.parametrize(
    "response", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"x": 1}]
)
def test_an_empty_response_means_that_all_succeeded(sqs: Any, queue: str, response: Any) -> None:
    send(sqs, queue, "a", "b")
    EventSource(sqs, queue, Recorder(lambda _: response)).poll()
    assert left(sqs, queue) == (0, 0)


@pytest.mark.parametrize(
    "response",
    [
        "ok",
        ["id"],
        {"batchItemFailures": "id"},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
        {"batchItemFailures": [{"messageId": "wrong key"}]},
        {"batchItemFailures": ["bare"]},
        {"not json": {1, 2}},
    ],
)
def test_a_malformed_response_brings_the_whole_batch_back(sqs: Any, queue: str, response: Any) -> None:
    send(sqs, queue, "a", "b")
    EventSource(sqs, queue, Recorder(lambda _: response)).poll()
    assert left(sqs, queue) == (0, 2)


def test_one_wrong_id_beside_a_right_one_fails_the_whole_batch() -> None:
    failures = [{"itemIdentifier": "a"}, {"itemIdentifier": "nope"}]
    assert reported_failures({"batchItemFailures": failures}, {"a", "b"}) is None
    assert reported_failures({"batchItemFailures": failures[:1]}, {"a", "b"}) == {"a"}


def test_an_exception_brings_the_whole_batch_back(sqs: Any, queue: str) -> None:
    def explode(_: list[dict[str, Any]]) -> None:
        raise RuntimeError("boom")

    send(sqs, queue, "a", "b")
    EventSource(sqs, queue, Recorder(explode)).poll()
    assert left(sqs, queue) == (0, 2)


def test_without_partial_responses_any_answer_deletes_the_batch(sqs: Any, queue: str) -> None:
    send(sqs, queue, "a")
    settings = MappingSettings(report_batch_item_failures=False)
    EventSource(sqs, queue, Recorder(failing("a")), settings).poll()
    assert left(sqs, queue) == (0, 0)


def test_a_failed_message_returns_when_its_visibility_ends(
    sqs: Any, make_intake: Callable[..., Intake]
) -> None:
    url = make_intake(visibility=1).queue_url
    sqs.purge_queue(QueueUrl=url)
    send(sqs, url, "a")
    handler = Recorder(failing("a"))
    source = EventSource(sqs, url, handler)
    started = time.monotonic()
    source.poll()
    until(lambda: source.poll(wait=2))
    assert time.monotonic() - started >= 1, "it came back at once"
    assert [batch[0]["attributes"]["ApproximateReceiveCount"] for batch in handler.batches] == ["1", "2"]


def test_a_retry_delay_brings_it_back_sooner(sqs: Any, make_intake: Callable[..., Intake]) -> None:
    url = make_intake(visibility=600).queue_url
    sqs.purge_queue(QueueUrl=url)
    send(sqs, url, "a")
    source = EventSource(sqs, url, Recorder(failing("a")), MappingSettings(retry_delay=1))
    source.poll()
    until(lambda: source.poll(wait=2))


def test_poison_ends_in_the_dead_letter_queue(sqs: Any, make_intake: Callable[..., Intake]) -> None:
    """I6: a message that never succeeds is handled maxReceiveCount times, then kept aside."""
    intake = make_intake(visibility=0, max_receive_count=3)
    sqs.purge_queue(QueueUrl=intake.queue_url)
    send(sqs, intake.queue_url, "poison")
    handler = Recorder(failing("poison"))
    source = EventSource(sqs, intake.queue_url, handler)
    for _ in range(5):
        source.poll(wait=0)
    assert len(handler.batches) == 3
    (dead,) = sqs.receive_message(QueueUrl=intake.dead_letter_url)["Messages"]
    assert dead["Body"] == "poison"


def test_batches_are_as_large_as_asked(sqs: Any, queue: str) -> None:
    send(sqs, queue, *"abcdefg")
    handler = Recorder()
    assert EventSource(sqs, queue, handler, MappingSettings(batch_size=3)).drain(wait=0) == 7
    assert [len(batch) for batch in handler.batches] == [3, 3, 1]


def test_a_window_gathers_batches_larger_than_one_receive(sqs: Any, queue: str) -> None:
    """A batch is whole long before its window closes, and what remains leaves when its own does."""
    send(sqs, queue, *(str(number) for number in range(25)))
    handler = Recorder()
    EventSource(sqs, queue, handler, MappingSettings(batch_size=20, window=60)).poll(wait=0)
    EventSource(sqs, queue, handler, MappingSettings(batch_size=20, window=1)).drain(wait=0)
    assert [len(batch) for batch in handler.batches] == [20, 5]


def test_a_large_batch_needs_a_window() -> None:
    with pytest.raises(ConfigurationError, match="at least 1 s for batches of 11"):
        MappingSettings(batch_size=11)


def test_an_upload_and_a_delete_arrive_with_growing_sequencers(
    aws: LocalAws, sqs: Any, intake: Intake, queue: str
) -> None:
    s3 = aws.client("s3")
    version = s3.put_object(Bucket=intake.bucket, Key="a b+é.txt", Body=b"x")["VersionId"]
    s3.delete_object(Bucket=intake.bucket, Key="a b+é.txt")
    handler = Recorder()
    source = EventSource(sqs, queue, handler)
    until(lambda: source.poll(wait=2) + sum(map(len, handler.batches)) >= 2)
    found = [json.loads(record["body"])["Records"][0] for batch in handler.batches for record in batch]
    put, gone = sorted(found, key=lambda each: str(each["s3"]["object"]["sequencer"]))
    assert (put["eventName"], gone["eventName"]) == ("ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated")
    assert put["s3"]["object"]["key"] == "a+b%2B%C3%A9.txt"
    assert put["s3"]["object"]["versionId"] == version


# The mapping as a process.


class MappingProcess(Server):
    name = "mapping"
    grace = 60.0
    script = "scripts.local.event_source"

    def __init__(
        self, folder: Path, queue: str, environment: dict[str, str], options: dict[str, Any]
    ) -> None:
        super().__init__(folder, tethered=True)
        self._options = {"handler": "tests.support.handlers:collect", "queue-url": queue, **options}
        self._environment = environment

    def command(self) -> list[str]:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self._options.items()]
        return [sys.executable, "-m", self.script, *options]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self._environment}


@pytest.fixture
def start_mapping(
    aws: LocalAws, queue: str, tmp_path: Path
) -> Iterator[Callable[..., tuple[MappingProcess, Path]]]:
    started: list[MappingProcess] = []

    def start(**options: Any) -> tuple[MappingProcess, Path]:
        seen = tmp_path / "seen"
        seen.touch()
        started.append(
            MappingProcess(tmp_path / "mapping", queue, {**aws.variables, "COLLECT_FILE": str(seen)}, options)
        )
        started[-1].start()
        return started[-1], seen

    yield start
    for server in started:
        server.stop()


def test_a_stop_finishes_the_batch_in_hand(start_mapping: Any, sqs: Any, queue: str) -> None:
    server, seen = start_mapping()
    send(sqs, queue, "slow")
    until(lambda: "start" in seen.read_text())
    server.stop()
    assert "end" in seen.read_text()
    assert left(sqs, queue) == (0, 0)


def test_workers_run_side_by_side_in_processes_of_their_own(start_mapping: Any, sqs: Any, queue: str) -> None:
    _, seen = start_mapping(maximum_concurrency=2, batch_size=1)
    send(sqs, queue, "meet", "meet")
    until(lambda: seen.read_text().count("end") == 2)
    lines = [line.split() for line in seen.read_text().splitlines()]
    assert [line[0] for line in lines] == ["start", "start", "end", "end"]
    assert len({line[1] for line in lines}) == 2


def test_a_worker_that_outlasts_its_timeout_is_killed_and_replaced(
    start_mapping: Any, sqs: Any, queue: str
) -> None:
    _, seen = start_mapping(timeout=5.0)
    send(sqs, queue, "hang")
    until(lambda: "start" in seen.read_text())
    send(sqs, queue, "next")
    until(lambda: "end" in seen.read_text())
    assert "hang" not in [line.split()[2] for line in seen.read_text().splitlines() if line.startswith("end")]
    # what is finished goes a moment after it ended; what is not must still be there
    until(lambda: left(sqs, queue) == (0, 1))


# One execution environment under its parent.


def test_an_environment_is_frozen_between_calls(lambda_process: MakeLambda, tmp_path: Path) -> None:
    """F19: timers and threads of a function do not run while nobody calls it."""
    process, beats = lambda_process("tests.support.handlers:pulse"), tmp_path / "beats"
    beats.touch()
    for _ in range(2):
        process.invoke({"file": str(beats)})
        until(process.stopped)
        before = beats.stat().st_size
        time.sleep(0.25)
        assert beats.stat().st_size == before, "the thread went on while frozen"
    process.thaw()
    until(lambda: beats.stat().st_size > before)


def test_an_unfrozen_environment_goes_on(lambda_process: MakeLambda, tmp_path: Path) -> None:
    process, beats = lambda_process("tests.support.handlers:pulse", freezes=False), tmp_path / "beats"
    beats.touch()
    process.invoke({"file": str(beats)})
    until(lambda: beats.stat().st_size > 100)


@pytest.mark.parametrize(("occurrence", "lines"), [(1, 1), (2, 3)])
def test_a_kill_point_is_where_the_process_dies(
    lambda_process: MakeLambda, tmp_path: Path, occurrence: int, lines: int
) -> None:
    process, file = lambda_process("tests.support.handlers:steps"), tmp_path / "lines"
    with pytest.raises(Killed, match="-9"):
        process.invoke({"file": str(file)}, kill_at="half_way", occurrence=occurrence)
    assert len(file.read_text().splitlines()) == lines
    assert process.invoke({"file": str(file)})["pid"] == process.pid, "the next call gets a fresh process"
    assert len(file.read_text().splitlines()) == lines + 4


def test_a_paused_call_can_be_overtaken_and_then_goes_on(lambda_process: MakeLambda, tmp_path: Path) -> None:
    """F20: a zombie holds still while another worker does the work, and wakes up later."""
    file = {"file": str(tmp_path / "lines")}
    zombie, other = (lambda_process("tests.support.handlers:steps") for _ in range(2))
    call = zombie.begin(file, pause_at="half_way")
    call.wait_paused()
    other.invoke(file)
    assert (tmp_path / "lines").read_text().split() == ["before", "before", "after", "before", "after"]
    call.thaw()
    assert call.result()["pid"] == zombie.pid


def test_a_call_that_takes_too_long_is_killed(lambda_process: MakeLambda) -> None:
    process = lambda_process("tests.support.handlers:sleep")
    process.start()
    with pytest.raises(TimedOut):
        process.invoke({"seconds": 30}, timeout=0.3)
    assert process.pid is None


def test_an_exception_of_the_handler_is_shown_with_its_type(lambda_process: MakeLambda) -> None:
    process = lambda_process("tests.support.handlers:fail")
    with pytest.raises(HandlerError, match="no such luck") as caught:
        process.invoke({})
    assert caught.value.type == "ValueError"
    assert process.alive(), "an exception does not end the environment"


def test_a_handler_that_cannot_be_imported_says_so(lambda_process: MakeLambda) -> None:
    with pytest.raises(Killed, match=r"No module named 'tests\.nowhere'"):
        lambda_process("tests.nowhere:handler").invoke({})


def test_calls_get_a_context_and_only_the_environment_given(lambda_process: MakeLambda) -> None:
    os.environ["RAGZERO_LEAKED"] = "1"
    try:
        process = lambda_process("tests.support.handlers:context_shown", {"GIVEN": "1"})
        shown = process.invoke({}, timeout=100)
    finally:
        del os.environ["RAGZERO_LEAKED"]
    assert 40_000 < shown["left"] <= 100_000
    assert shown["arn"].endswith(":function:under-test")
    assert shown["request"]
    for environment in shown["environments"]:
        assert environment["GIVEN"] == "1"
        assert "RAGZERO_LEAKED" not in environment
