"""The pool: the same text as in-process, hard limits, and the next document parses whatever the last one did."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from functions.ingest.parsing import ParseLimits, ParserPool, parse, sandbox, wire
from functions.ingest.parsing.limits import MIB
from shared.core.errors import UnreadableDocument
from shared.core.models import Block, ParsedDocument
from tests.support import documents
from tests.support.waiting import until, within

WORDS = "The quick brown fox jumps over the lazy dog. "
SAMPLES = {
    "a.txt": "Grüße 😀".encode(),
    "legacy.txt": "Привет мир, как дела сегодня? Хорошо.".encode("koi8_r"),
    "japanese.txt": ("これは日本語の文章です。今日は良い天気ですね。" * 9).encode("cp932"),
    "a.md": b"# T\n\ntext",
    "a.html": documents.html_bytes("<h1>T</h1>text"),
    "a.pdf": documents.pdf_bytes(["# T\ntext", "more"]),
    "a.docx": documents.docx_bytes(["# T", "text"]),
    "a.pptx": documents.pptx_bytes([("T", ["text"])]),
    "a.xlsx": documents.xlsx_bytes({"S": [["a", "b"], [1, 2]]}),
    "a.odt": documents.odt_bytes(["# T", "text"]),
    "a.epub": documents.epub_bytes("T", ["text"]),
    "a.rtf": documents.rtf_bytes(["täxt"]),
    "a.eml": documents.eml_bytes("Grüße", subject="Tée", attachments={"ü.bin": b"1"}),
    "a.csv": b"a,b\n1,2\n",
    "a.json": b'{"a": [1, {"b": 2}]}',
    "a.py": b"def f():\n    pass\n",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool() as shared:
        yield shared


def failure(pool: ParserPool, data: bytes, name: str = "file") -> UnreadableDocument:
    with pytest.raises(UnreadableDocument) as raised:
        pool.parse(data, name=name)
    return raised.value


def still_works(pool: ParserPool) -> bool:
    return pool.parse(b"next", name="a.txt").blocks == (Block("next"),)


def server_id(pool: ParserPool) -> int:
    assert pool._server is not None
    return pool._server.process.pid


def child_of(pid: int) -> int:
    """Waits for the fork of the server and returns its id."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    children: list[str] = []
    until(lambda: children.extend(listing.read_text().split()) or children, tick=0.002)
    return int(children[0])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_pool_reads_what_the_process_itself_reads(pool: ParserPool, name: str) -> None:
    """Among others: everything the parsers load late was loaded before files became unreachable."""
    assert pool.parse(SAMPLES[name], name=name) == parse(SAMPLES[name], name=name)


def test_failures_keep_their_code_and_detail(pool: ParserPool) -> None:
    raised = failure(pool, documents.pdf_bytes(["x"], password="secret"))
    assert (raised.code, raised.detail) == ("encrypted", "The PDF is protected with a password.")


def test_input_past_the_limit_is_not_even_sent() -> None:
    pool = ParserPool(ParseLimits(input_bytes=10))
    assert failure(pool, b"x" * 11).code == "too_large"
    assert pool._server is None


def test_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTML tree this deep takes the parser minutes."""
    with ParserPool(ParseLimits(wall_seconds=0.6, cpu_seconds=600)) as pool:
        raised = within(3, lambda: failure(pool, b"<html>" + b"<div>" * 200_000))
        assert raised.code == "timeout"
        assert "0.6 s" in raised.detail
        monkeypatch.setattr(pool._server, "_limits", ParseLimits())  # what is well may take its time
        assert still_works(pool)


def test_processor_time() -> None:
    with ParserPool(ParseLimits(wall_seconds=600, cpu_seconds=1)) as pool:
        raised = within(15, lambda: failure(pool, b"<html>" + b"<div>" * 200_000))
        assert raised.code == "timeout"
        assert "1 s of processor time" in raised.detail
        assert still_works(pool)


@pytest.mark.parametrize(
    "data",
    [WORDS.encode() * 1_000_000, b"[" + b"[],".join([b""] * 8_000_000) + b"[]]"],
    ids=["receiving", "parsing"],
)
def test_memory(data: bytes) -> None:
    with ParserPool(ParseLimits(memory_bytes=64 * MIB)) as pool:
        raised = failure(pool, data, "a.json")
        assert raised.code == "out_of_memory"
        assert "64 MiB" in raised.detail
        assert still_works(pool)


def test_output(pool: ParserPool) -> None:
    with ParserPool(ParseLimits(text_bytes=1000)) as small:
        assert failure(small, WORDS.encode() * 100).code == "too_much_text"
        assert still_works(small)


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crashing_parser_takes_only_its_document_with_it(pool: ParserPool, how: signal.Signals) -> None:
    assert still_works(pool)
    server = server_id(pool)
    killer = threading.Thread(target=lambda: os.kill(child_of(server), how))
    killer.start()
    raised = failure(pool, b"<html>" + b"<div>" * 200_000)
    killer.join()
    assert raised.code == "crashed"
    assert ("memory" if how == signal.SIGKILL else how.name) in raised.detail
    assert still_works(pool)
    assert server_id(pool) == server


def test_a_dead_server_is_replaced(pool: ParserPool) -> None:
    assert still_works(pool)
    before = server_id(pool)
    os.kill(before, signal.SIGKILL)
    assert still_works(pool)
    assert server_id(pool) != before


def test_a_server_that_dies_at_work_is_replaced_and_the_document_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ParserPool() as pool:
        assert still_works(pool)
        server, send = server_id(pool), sandbox._Conversation.send

        def kill(talk: sandbox._Conversation, data: bytes) -> None:
            """In mid-document: its child has been forked, and waits for the text."""
            if server_id(pool) == server and len(data) > 1000:
                child = child_of(server)
                os.kill(server, signal.SIGKILL)
                os.kill(child, signal.SIGKILL)
            send(talk, data)

        monkeypatch.setattr(sandbox._Conversation, "send", kill)
        document = pool.parse(WORDS.encode() * 200_000, name="a.txt")
        assert server_id(pool) != server
        assert len(document.blocks) > 1000


def test_threads_take_turns(pool: ParserPool) -> None:
    found: dict[int, ParsedDocument] = {}

    def work(number: int) -> None:
        found[number] = pool.parse(f"document {number}".encode(), name="a.txt")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: d.blocks for n, d in found.items()} == {n: (Block(f"document {n}"),) for n in range(12)}


def test_the_time_its_caller_was_stopped_does_not_count() -> None:
    """A frozen Lambda, or a stopped process, must not turn into documents that took too long."""
    program = """
        import signal, time
        from functions.ingest.parsing import ParserPool
        right, stopped = time.monotonic, []
        time.monotonic = lambda: right() + 3600 * len(stopped)
        signal.signal(signal.SIGCONT, lambda *_: stopped.append("for an hour"))
        with ParserPool() as pool:
            pool.parse(b"warm", name="a.txt")
            print(pool._server.process.pid, flush=True)
            print(len(pool.parse(b"The quick brown fox. " * 1_000_000, name="a.txt").blocks), flush=True)
    """
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, cwd=root
    )
    with process:
        assert process.stdout is not None
        child_of(int(process.stdout.readline()))
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, tick=0.002)
        process.send_signal(signal.SIGCONT)
        assert int(process.stdout.readline()) > 2000
    assert process.returncode == 0


def test_the_limited_process_holds_no_secrets_and_no_open_files(
    pool: ParserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGZERO_DATABASE_URL", "postgresql://secret")
    with ParserPool() as fresh, open(__file__):
        assert still_works(fresh)
        server = Path(f"/proc/{server_id(fresh)}")
        names = {entry.partition(b"=")[0] for entry in (server / "environ").read_bytes().split(b"\0")} - {b""}
        assert names <= {b"PYTHONPATH", b"PYTHONUTF8", b"LD_LIBRARY_PATH"}
        files = sorted(os.readlink(entry) for entry in (server / "fd").iterdir())
        assert [name.partition("[")[0] for name in files] == ["/dev/null", "/dev/null", "socket:"]


def test_confinement_forbids_files_sockets_and_processes() -> None:
    program = """
        import os, socket
        from functions.ingest.parsing import ParseLimits
        from functions.ingest.parsing.server import confine
        confine(ParseLimits())
        refused = 0
        for attempt in (lambda: open("/etc/passwd"), socket.socket, os.pipe):
            try:
                attempt()
            except OSError:
                refused += 1
        os.write(1, b"%d" % refused)
    """
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, cwd=root, check=True
    )
    assert done.stdout == b"3"


def test_closing_leaves_no_process_behind() -> None:
    pool = ParserPool()
    assert still_works(pool)
    server = server_id(pool)
    pool.close()
    assert not Path(f"/proc/{server}").exists()
    assert still_works(pool)
    pool.close()


def test_using_the_pool_loads_no_format_library() -> None:
    """The handler's cold start must not pay for what only the limited process needs."""
    program = """
        import sys
        import functions.ingest.parsing
        print([name for name in sys.modules if name in {"lxml", "selectolax", "pypdfium2"}])
    """
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, cwd=root, check=True
    )
    assert done.stdout == b"[]\n"


def test_answers_survive_the_wire() -> None:
    document = ParsedDocument(
        "text/plain", (Block("äöü 😀", 3, ("A", "B")), Block("x"), Block("y\nz", None, ("A",))), 3, ("flag",)
    )
    assert wire.decode(wire.encode(document)) == document


@pytest.mark.parametrize(
    "block", [Block("nul \0 inside"), Block("text", None, ("nul \0 inside",))], ids=["text", "heading"]
)
def test_an_answer_with_nul_is_refused(block: Block) -> None:
    """The database refuses it, so an untrusted parser must not be able to send it."""
    with pytest.raises(ValueError, match="the answer"):
        wire.decode(wire.encode(ParsedDocument("text/plain", (block,))))


@pytest.mark.parametrize("seed", range(200))
def test_a_manipulated_answer_is_never_taken_for_anything_else(seed: int) -> None:
    """The limited process is not trusted: what it sends is a document, a failure, or a ValueError."""
    chance = random.Random(seed)
    answer = bytearray(
        wire.encode(ParsedDocument("text/plain", (Block("some text", 1, ("A",)), Block("more")), 1))
    )
    for _ in range(chance.randint(1, 4)):
        answer[chance.randrange(len(answer))] = chance.randrange(256)
    del answer[chance.choice((len(answer), chance.randrange(len(answer)))) :]
    try:
        document = wire.decode(bytes(answer))
    except (ValueError, UnreadableDocument):
        return
    assert isinstance(document, ParsedDocument)
    assert all(isinstance(block, Block) and "\0" not in block.text for block in document.blocks)


def test_parsing_opens_and_loads_nothing_that_the_server_has_not() -> None:
    """What Python loads late could not be loaded in the limited process: the file would be blamed for it."""
    program = """
        import sys
        from functions.ingest.parsing import ParseLimits, dispatch, server
        from shared.core.errors import UnreadableDocument
        samples = eval(sys.stdin.read())
        server._load_codecs()
        seen = []
        sys.addaudithook(lambda event, args: seen.append((event, args[0])) if event in {"open", "import"} else None)
        for name, data in samples.items():
            try:
                dispatch.parse(data, name=name, limits=ParseLimits())
            except UnreadableDocument:
                pass
        print(seen)
    """
    damaged = {f"damaged.{name}": data[: len(data) * 2 // 3] for name, data in SAMPLES.items()}
    noisy = {f"noisy.{name}": random.Random(name).randbytes(99) + data for name, data in SAMPLES.items()}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        input=repr(SAMPLES | damaged | noisy).encode(),
        capture_output=True,
        cwd=Path(__file__).parents[3],
        check=True,
    )
    assert done.stdout == b"[]\n"
