"""The page at /, in a real Chromium, on what scripts/up starts: every test ends with a look at what went wrong unseen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from scripts.benchmarks.throwaway import client, documents, stack
from scripts.local.stack import Stack
from tests.fakes.gpu_server import FakeGpu
from tests.support.browser import Visitor, chromium
from tests.support.documents import docx_bytes, html_bytes, pdf_bytes
from tests.support.load import Load
from tests.support.servers import running
from tests.support.serving_process import ServingProcess
from tests.support.waiting import PATIENT_VARIABLES, until
from tests.support.wire import Wire

pytestmark = pytest.mark.e2e

REPORT = [
    "# Harbour report\n\nThe harbour office keeps a record of every ship that calls.",
    "# Lighthouse\n\nThe lighthouse keeper retired in 1987. The lamp was automated in the spring after that.",
]
MINUTES = ["The council met in May.", "Repairs of the north pier cost forty thousand euros."]
RETIRED = "When did the lighthouse keeper retire?"
Shelf = Callable[[dict[str, bytes]], list[Path]]
NOT_FOUND = "I did not find that in the documents."
# Whatever changes on the page: how far the bar is then, and how many rows there are.
_WATCH = """() => {
    window.seen = [];
    const look = () => {
        const bar = document.querySelector('#uploads > progress');
        if (bar) seen.push([bar.position, document.querySelectorAll('.virtual-row').length]);
    };
    new MutationObserver(look).observe(document, {subtree: true, childList: true, attributes: true});
}"""


@pytest.fixture(scope="module")
def local() -> Iterator[Stack]:
    with stack(variables=PATIENT_VARIABLES) as made:
        yield made


@pytest.fixture(scope="module")
def api(local: Stack) -> Iterator[httpx.Client]:
    with client(local) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as made:
        yield made


@pytest.fixture(scope="module")
def written(local: Stack, gpu: FakeGpu) -> Iterator[ServingProcess]:
    """An API whose answers a model writes, over the same documents."""
    model = {
        "RAGZERO_GENERATOR_URL": gpu.url,
        "RAGZERO_GENERATOR_API_KEY": gpu.key,
        "RAGZERO_GENERATOR_MODEL": gpu.model,
        "RAGZERO_PRICE_GPU_SECOND": "0.5",
    }
    with running(ServingProcess(local.folder, local.api.variables | model)) as server:
        yield server


@pytest.fixture
def visit(browser: Browser, local: Stack, tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    """visit(url=..., **what the browser is like). Screenshots of where each visit ended stay in the test's folder."""
    made: list[Visitor] = []

    def visit(url: str = local.api.url, **options: object) -> Visitor:
        made.append(Visitor(browser, url, local.aws.url, **options))
        return made[-1]

    yield visit
    for number, visitor in enumerate(made):
        visitor.page.screenshot(path=tmp_path / f"end-{number}.png")
        visitor.close()
    assert [visitor.unexpected() for visitor in made] == [[] for _ in made]


@pytest.fixture
def visitor(visit: Callable[..., Visitor], local: Stack) -> Visitor:
    """Signed in with the key that local mode gives out."""
    visitor = visit()
    visitor.sign_in(local.secrets.api_key)
    return visitor


@pytest.fixture
def files(tmp_path: Path) -> Shelf:
    """files({name: content}), on disk."""

    def made(contents: dict[str, bytes]) -> list[Path]:
        paths = [tmp_path / "files" / name for name in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return paths

    return made


@pytest.fixture
def shelf(api: httpx.Client, files: Shelf) -> Iterator[Shelf]:
    """The same; whatever documents there are afterwards is deleted."""
    yield files
    for status in ("searchable", "failed", "pending", "processing"):
        for document in documents(api, status):
            api.delete(f"/v1/documents/{document['id']}").raise_for_status()


def test_from_two_files_to_a_cited_page_and_out_again(visitor: Visitor, shelf: Shelf) -> None:
    page = visitor.page
    visitor.add(shelf({"harbour report.pdf": pdf_bytes(REPORT), "minutes.docx": docx_bytes(MINUTES)}))
    visitor.awaits("2 of 2 files searchable")
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_text(
        [re.compile("harbour report.pdf.*Searchable, 2 pages"), re.compile("minutes.docx.*Searchable")]
    )

    assert [method for method, _ in visitor.sent] == ["POST", "POST"], "not straight into the bucket"

    turn = visitor.ask(RETIRED)
    expect(turn.locator("blockquote").first).to_have_text("The lighthouse keeper retired in 1987.")
    expect(turn.get_by_role("list", name="Sources").get_by_role("listitem")).to_have_count(3)
    turn.get_by_role("button", name="Citation 1: harbour report.pdf, page 2").click()
    sheet = visitor.reads()
    expect(sheet.get_by_role("heading", name="harbour report.pdf")).to_be_visible()
    expect(sheet.locator("mark.active")).to_have_text("The lighthouse keeper retired in 1987.")
    expect(sheet.locator(".page-label")).to_have_text(["Page 1", "Page 2"])
    expect(sheet.locator("mark.active")).to_be_focused()
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()

    visitor.go("Documents")
    page.get_by_role("button", name="Delete harbour report.pdf").click()
    asked = page.get_by_role("dialog", name="Delete harbour report.pdf?")
    expect(asked.get_by_role("button", name="Cancel")).to_be_focused()
    asked.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("row", name=re.compile("harbour report"))).to_have_count(0)
    expect(page.get_by_role("row", name=re.compile("minutes"))).to_have_count(1)
    turn = visitor.ask(RETIRED)
    expect(turn.locator(".answer")).to_have_text(NOT_FOUND)


def test_a_file_that_cannot_be_read_says_why(visitor: Visitor, shelf: Shelf) -> None:
    visitor.add(shelf({"locked.pdf": pdf_bytes(["secret"], password="x")}))
    visitor.awaits("0 of 1 file searchable, 1 not searchable")
    reason = "The PDF is protected with a password."
    expect(visitor.page.get_by_role("list", name="Files")).to_contain_text(reason)
    row = visitor.page.get_by_role("row", name=re.compile("locked"))
    expect(row).to_contain_text("Failed")
    expect(row).to_contain_text(reason)
    row.get_by_role("button", name="locked.pdf", exact=True).click()
    expect(visitor.reads().locator(".timeline")).to_contain_text(f"Failed: {reason}")


def test_large_files_go_into_the_bucket_in_parts(visitor: Visitor, shelf: Shelf, api: httpx.Client) -> None:
    size = 17 * 2**20
    visitor.add(shelf({"large.bin": bytes(size), "small.txt": b"A small note."}))
    visitor.awaits("1 of 2 files searchable, 1 not searchable")
    assert sorted(method for method, _ in visitor.sent) == ["POST", "PUT", "PUT", "PUT"]
    assert [one["bytes"] for one in documents(api, "failed")] == [size]


def test_where_the_bucket_cannot_be_reached_files_go_through_the_api(visitor: Visitor, shelf: Shelf) -> None:
    """A bucket that lets no page of this address in looks like one that is not there."""
    visitor.expects("ERR_FAILED")
    visitor.page.route(f"{visitor.bucket}/**", lambda route: route.abort())
    visitor.add(shelf({f"memo-{number}.txt": b"A memo about detours." for number in range(6)}))
    visitor.awaits("6 of 6 files searchable")
    assert len(visitor.sent) < 6, "the bucket was tried for each"
    assert visitor.paths.count("/v1/documents") >= 6


def test_a_conversation_goes_on_and_every_answer_can_be_explained(visitor: Visitor, shelf: Shelf) -> None:
    page = visitor.page
    visitor.add(
        shelf({"harbour report.pdf": pdf_bytes(REPORT), "baking.txt": b"Bread is baked on Tuesdays, early."})
    )
    visitor.awaits("2 of 2 files searchable")
    visitor.ask(RETIRED)
    turn = visitor.ask("And the lamp?")
    expect(turn.locator(".condensed")).to_have_text("Understood as: And the lamp? (lighthouse keeper retire)")
    expect(turn.locator("blockquote").first).to_have_text("The lamp was automated in the spring after that.")
    page.get_by_label("Search mode").select_option("fast")
    turn.get_by_role("button", name="Copy").press("e")
    why = page.get_by_role("dialog", name="Why is it found, or not?")
    expect(why.locator(".verdict")).to_contain_text("It is in the result.Place 1 of")
    expect(why.get_by_label("Question")).to_have_value("And the lamp? (lighthouse keeper retire)")
    expect(why.get_by_role("row", name=re.compile("^By both"))).to_contain_text("1 of 3")
    why.get_by_label("Another one").fill("BAKING")
    expect(why.get_by_role("row", name=re.compile("^By its words"))).to_contain_text("–")
    expect(why.get_by_label("Document")).to_contain_text("baking.txt")
    why.get_by_label("Another one").fill("nothing like it")
    expect(why).to_contain_text("No document has that in its name.")
    why.get_by_role("button", name="Close").click()

    page.get_by_role("button", name="New conversation").click()
    turn = visitor.ask("And the lamp?")
    expect(turn.locator(".condensed")).to_be_hidden()
    visitor.go("Documents")
    page.get_by_role("row").get_by_role("button", name="baking.txt", exact=True).click()
    visitor.reads().get_by_role("button", name="Why is it found, or not?").click()
    expect(why.locator(".verdict")).to_be_visible()
    expect(why.locator(".hint")).to_have_text("Collection default · fast · 5 passages read")


def test_what_a_document_says_is_text_and_nothing_else(visitor: Visitor, shelf: Shelf) -> None:
    """No dialog, no request to elsewhere, no script: the fixture looks. Nor in file names."""
    attack = (
        "<script>alert(1); document.title = 'owned'</script><p>The vault code is kept by the bursar.</p>"
        "<img src='http://elsewhere.example/x.png' onerror='alert(2)'><p>&lt;img src=x onerror=alert(3)&gt; the bursar</p>"
    )
    name = "<img src=x onerror=alert(4)>.html"
    visitor.add(shelf({name: html_bytes(attack, title="<script>alert(5)</script>")}))
    visitor.awaits("1 of 1 file searchable")
    turn = visitor.ask("Who keeps the vault code?")
    expect(turn).to_contain_text("The vault code is kept by the bursar.")
    turn.locator(".cite").first.click()
    expect(visitor.reads()).to_contain_text("<img src=x onerror=alert(3)> the bursar")
    expect(visitor.page.locator("#sheet img, #sheet script, #turns img, #turns script")).to_have_count(0)
    visitor.page.keyboard.press("Escape")
    visitor.go("Documents")
    expect(visitor.page.get_by_role("row", name=re.compile("onerror"))).to_contain_text(name)
    expect(visitor.page).to_have_title("Documents · ragzero")


def test_a_busy_api_is_waited_for(
    visit: Callable[..., Visitor],
    local: Stack,
    api: httpx.Client,
    shelf: Shelf,
) -> None:
    """429 with Retry-After: nothing is lost, and it says that it waits. Somebody else asks with the same key until then."""
    admin = {"Authorization": f"Bearer {local.secrets.admin_key}"}
    slow = {"tenant_id": local.secrets.tenant, "name": "slow", "scopes": ["query", "ingest"]}
    limits = {"limits": {"rate": 1, "burst": 2}}
    key = api.post("/v1/admin/keys", json=slow | limits, headers=admin).raise_for_status().json()["key"]
    visitor = visit()
    visitor.expects("status of 429")
    visitor.sign_in(key)
    visitor.go("Documents")
    with Load(lambda: api.get("/v1/key", headers={"Authorization": f"Bearer {key}"})) as somebody:
        visitor.add(shelf({f"memo-{number}.txt": b"A memo about patience." for number in range(9)}))
        until(lambda: visitor.page.wait_for_timeout(50) or any("429" in one for one in visitor.complaints))
    assert somebody.trouble == []
    visitor.awaits("9 of 9 files searchable")


def test_a_question_that_has_to_wait_holds_nothing_else_up(visitor: Visitor, shelf: Shelf) -> None:
    """A tenant is given a few answers at once."""
    visitor.expects("status of 429")
    visitor.page.route(
        "**/v1/query", lambda route: route.fulfill(status=429, headers={"Retry-After": "50"}, body="{}")
    )
    turn = visitor.asks(RETIRED)
    expect(turn.locator(".status")).to_contain_text("asking again in 50 s")
    visitor.add(shelf({"memo.txt": b"A memo about lines."}))
    visitor.awaits("1 of 1 file searchable")


# Twenty who ask at once and two who ask again whenever they were answered, of an API that answers one request in 40 ms and
# refuses the last ones first. One of the twenty goes away, and one is answered so late that nobody waits for it.
_CROWD = """async () => {
    const {Line} = await import('/page/any/line.js');
    const line = new Line();
    const leaving = new AbortController();
    const served = [];
    let token = true, over = false, late = null;
    setInterval(() => { token = true; }, 40);
    const ask = (name, signal) => line.through(async () => {
        if (!token) {
            await new Promise((resolve) => setTimeout(resolve, name === 'again' ? 0 : 25 - name));
            throw {status: 429, retryAfter: 0.04};
        }
        token = false;
        served.push(name);
        if (name === 3) await new Promise((resolve) => { late = resolve; });
        return name;
    }, {signal});
    const crowd = [...Array(20).keys()].map((name) => ask(name, name === 5 ? leaving.signal : undefined));
    const others = [0, 1].map(async () => { while (!over) await ask('again'); });
    leaving.abort();
    const told = await Promise.allSettled(crowd.filter((_, name) => name !== 3));
    late();
    over = true;
    await Promise.all([crowd[3], ...others]);
    const tomorrow = await line.through(async () => { throw {status: 429, retryAfter: 3600}; }, {}).catch((error) => error);
    return [served, told.filter((one) => one.status === 'rejected').map((one) => one.reason.name), tomorrow.retryAfter];
}"""


def test_who_waits_for_a_busy_api_gets_its_turn(visitor: Visitor) -> None:
    """In the order in which they came, whoever looks again and again beside them; nobody waits for tomorrow."""
    served, refused, tomorrow = visitor.page.evaluate(_CROWD)
    everybody = [name for name in range(20) if name != 5]
    assert served[: len(everybody)] == everybody
    assert refused == ["AbortError"]
    assert tomorrow == 3600


def test_a_model_that_wakes_writes_and_can_be_stopped(
    visit: Callable[..., Visitor],
    local: Stack,
    written: ServingProcess,
    gpu: FakeGpu,
    shelf: Shelf,
) -> None:
    visitor = visit(written.url)
    visitor.sign_in(local.secrets.api_key)
    visitor.add(shelf({"harbour report.pdf": pdf_bytes(REPORT)}))
    visitor.awaits("1 of 1 file searchable")

    gpu.reset()
    gpu.reply("**He** retired in 1987 [1].\n\n- The keeper retired in 1987 [1].\n- <b>bold</b> claims.")
    gpu.cold_for(600)
    turn = visitor.asks(RETIRED)
    expect(turn.get_by_role("list", name="Sources").get_by_role("listitem").first).to_be_visible()
    expect(turn.locator(".status")).to_contain_text("Waking the model")
    gpu.heal()
    expect(turn.get_by_role("button", name="Copy")).to_be_visible()
    expect(turn.locator(".answer li")).to_have_count(2)
    expect(turn.locator(".answer strong")).to_have_text("He")
    expect(turn.locator(".turn-meta")).to_contain_text("Written by the model")
    turn.get_by_text("Details").click()
    expect(turn.locator(".facts")).to_contain_text(re.compile(r"Cost\$0\.\d+.*GPU.* s", re.DOTALL))
    turn.locator(".cite").first.click()
    expect(visitor.reads().locator("mark.active")).to_have_text("The lighthouse keeper retired in 1987.")
    visitor.page.keyboard.press("Escape")

    turn = visitor.ask(RETIRED)
    expect(turn.locator(".turn-meta")).to_contain_text("asked before")

    gpu.slow(0.2)
    gpu.reply("word " * 200)
    turn.get_by_role("button", name="Ask again").click()
    turn = visitor.page.locator("#turns > li").last
    expect(turn.locator(".answer")).to_contain_text("word word")
    visitor.page.get_by_role("button", name="Stop the answer").click()
    expect(turn.locator(".status")).to_contain_text("Stopped")
    expect(turn.get_by_role("button", name="Try again")).to_be_visible()
    gpu.reset()


def test_an_answer_survives_a_broken_connection(
    visit: Callable[..., Visitor], local: Stack, written: ServingProcess, gpu: FakeGpu, shelf: Shelf
) -> None:
    with Wire(written.port) as wire:
        visitor = visit(wire.url)
        visitor.expects("ERR_")
        visitor.sign_in(local.secrets.api_key)
        visitor.add(shelf({"harbour report.pdf": pdf_bytes(REPORT)}))
        visitor.awaits("1 of 1 file searchable")
        gpu.reset()
        gpu.reply("The keeper retired in 1987 [1]. " + "And so on. " * 10)
        gpu.slow(1)
        turn = visitor.asks("In which year did the lighthouse keeper retire?")
        expect(turn.locator(".answer")).to_contain_text("retired")
        wire.cut()
        expect(turn.locator(".status")).to_contain_text("The connection broke. Fetching the answer")
        gpu.slow(0)
        expect(turn.get_by_role("button", name="Copy")).to_be_visible()
        expect(turn.locator(".answer")).to_contain_text("The keeper retired in 1987 1. And so on.")
        expect(turn.locator(".cite")).to_have_count(1)
    gpu.reset()


def test_a_document_that_changed_since_is_said_to_have_changed(
    visitor: Visitor, api: httpx.Client, shelf: Shelf
) -> None:
    visitor.add(shelf({"crane.txt": b"The harbour crane lifts forty tonnes."}))
    visitor.awaits("1 of 1 file searchable")
    turn = visitor.ask("How much does the harbour crane lift?")
    visitor.go("Documents")
    visitor.page.get_by_role("button", name="Clear finished").click()
    visitor.add(shelf({"crane.txt": b"Since its rebuild the harbour crane lifts sixty."}))
    visitor.awaits("1 of 1 file searchable")
    visitor.go("Ask")
    turn.locator(".cite").first.click()
    sheet = visitor.reads()
    expect(sheet).to_contain_text("This document was changed since the answer was made")
    expect(sheet).to_contain_text("lifts sixty")
    expect(sheet.locator("mark")).to_have_count(0)


def test_the_page_shows_what_the_key_may_do(
    visit: Callable[..., Visitor],
    local: Stack,
    api: httpx.Client,
    shelf: Shelf,
) -> None:
    admin = {"Authorization": f"Bearer {local.secrets.admin_key}"}

    def key(*scopes: str) -> str:
        wanted = {"tenant_id": local.secrets.tenant, "name": " ".join(scopes), "scopes": scopes}
        made: str = api.post("/v1/admin/keys", json=wanted, headers=admin).raise_for_status().json()["key"]
        return made

    visitor = visit()
    visitor.sign_in(local.secrets.admin_key)
    visitor.add(shelf({"crane.txt": b"The harbour crane lifts forty tonnes."}))
    visitor.awaits("1 of 1 file searchable")
    reader = visit()
    reader.sign_in(key("query"))
    reader.go("Documents")
    expect(reader.page.get_by_role("row", name=re.compile("crane"))).to_be_visible()
    for name in ("Add files", "Add a folder", "Delete crane.txt"):
        expect(reader.page.get_by_role("button", name=name)).to_have_count(0)
    expect(reader.page.get_by_role("checkbox")).to_have_count(0)
    reader.drop(*shelf({"dropped.txt": b"Not to be added."}))
    expect(reader.page.locator("#uploads")).to_be_hidden()
    writer = visit()
    writer.sign_in(key("ingest"))
    expect(writer.page.get_by_role("alert")).to_contain_text("may only add documents")


def test_a_wrong_key_is_refused_and_a_good_one_is_forgotten(
    visit: Callable[..., Visitor], local: Stack
) -> None:
    visitor = visit()
    visitor.expects("status of 401")
    page = visitor.page
    visitor.sign_in("rz_local_wrong")
    expect(page.get_by_role("alert")).to_contain_text("This key is not valid")
    expect(page.get_by_label("API key")).to_be_focused()
    visitor.sign_in(local.secrets.api_key)
    expect(page.get_by_label("Your question")).to_be_focused()
    assert local.secrets.api_key not in page.url + page.content()
    assert local.secrets.api_key not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    page.reload()
    expect(page.get_by_label("Your question")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_everything_can_be_done_with_the_keyboard(visitor: Visitor, shelf: Shelf) -> None:
    page, keys = visitor.page, visitor.page.keyboard
    visitor.add(shelf({"harbour report.pdf": pdf_bytes(REPORT)}))
    visitor.awaits("1 of 1 file searchable")
    page.locator("body").press("/")
    keys.type(RETIRED)
    keys.press("Enter")
    cite = page.locator(".cite").first
    cite.focus()
    keys.press("Enter")
    expect(visitor.reads()).to_be_visible()
    keys.press("Escape")
    expect(cite).to_be_focused()
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    keys.press("Tab")
    keys.press("Space")
    keys.press("Escape")
    keys.press("g")
    keys.press("d")
    expect(page.get_by_role("heading", name="Documents", exact=True)).to_be_hidden()
    keys.press("?")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Shortcuts").press("Enter")
    page.get_by_label("Single keys are shortcuts").press("Space")
    keys.press("Escape")
    keys.press("g")
    keys.press("d")
    expect(page.get_by_role("heading", name="Documents", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Documents", exact=True)).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_documents_are_found_by_name_status_and_collection(visitor: Visitor, shelf: Shelf) -> None:
    page = visitor.page
    files = {f"memo-{number}.txt": f"Memo number {number}.".encode() for number in range(55)}
    visitor.add(shelf(files | {"locked.pdf": pdf_bytes(["secret"], password="x")}))
    visitor.awaits("55 of 56 files searchable, 1 not searchable")
    rows = page.locator(".documents tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Older", exact=True).click()
    expect(rows).to_have_count(6)
    page.get_by_label("Name contains").fill("MEMO-5")
    expect(rows).to_have_count(6)
    page.get_by_label("Name contains").fill("")
    page.get_by_role("combobox", name="Status").select_option("failed")
    expect(rows).to_have_count(1)
    page.get_by_role("combobox", name="Status").select_option("")
    page.get_by_label("Name contains").fill("memo-1")
    expect(rows).to_have_count(11)
    page.get_by_label("Select all on this page").check()
    expect(page.locator("#selection")).to_contain_text("11 documents selected")
    page.locator("#selection").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete 11").click()
    expect(rows).to_have_count(0)
    expect(page.locator("#documents-list")).to_contain_text("No document has that in its name.")


def test_axe_finds_nothing(visit: Callable[..., Visitor], local: Stack, shelf: Shelf) -> None:
    """On no view, light or dark, wide or as narrow as a phone, where nothing needs scrolling sideways either."""
    visitor = visit(reduced_motion="reduce")
    page, found = visitor.page, {}

    def look(view: str) -> None:
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 360)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 740})
            found[view, scheme, width] = visitor.accessibility()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view

    page.goto(visitor.url)
    expect(page.get_by_label("API key")).to_be_visible()
    look("sign in")
    visitor.sign_in(local.secrets.api_key)
    expect(page.get_by_label("Your question")).to_be_visible()
    look("nothing asked")
    locked = pdf_bytes(["secret"], password="x")
    visitor.add(shelf({"harbour report.pdf": pdf_bytes(REPORT), "locked.pdf": locked}))
    visitor.awaits("1 of 2 files searchable, 1 not searchable")
    expect(page.locator(".documents tbody tr").first).to_be_visible()
    page.get_by_label("Select locked.pdf").check()
    look("documents")
    page.get_by_role("button", name="Delete locked.pdf").click()
    look("confirming")
    page.keyboard.press("Escape")
    page.get_by_role("row").get_by_role("button", name="locked.pdf", exact=True).click()
    expect(visitor.reads().locator(".timeline")).to_be_visible()
    look("facts")
    page.keyboard.press("Escape")
    turn = visitor.ask(RETIRED)
    turn.get_by_text("Details").click()
    look("answer")
    turn.get_by_role("button", name="Why these?").click()
    expect(page.locator(".verdict")).to_be_visible()
    look("explanation")
    page.keyboard.press("Escape")
    turn.locator(".cite").first.click()
    expect(visitor.reads().locator("mark.active")).to_be_visible()
    look("passage")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Options").click()
    look("options")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Shortcuts").click()
    look("shortcuts")
    page.keyboard.press("Escape")
    visitor.go("Usage")
    page.get_by_text("As a table").click()
    look("usage")
    assert found == {view: [] for view in found}


def test_the_first_paint_is_light(visit: Callable[..., Visitor], local: Stack) -> None:
    """Under 100 KB over the wire with everything that the page loads; the second time only its frame is asked for."""
    visitor = visit()
    visitor.sign_in(local.secrets.api_key)
    expect(visitor.page.get_by_label("Your question")).to_be_visible()
    sizes = visitor.page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".filter((one) => !one.name.includes('/v1/')).map((one) => one.transferSize)"
    )
    assert len(sizes) > 15
    assert sum(sizes) < 100_000
    visitor.paths.clear()
    visitor.page.goto("about:blank")
    visitor.page.goto(visitor.url)
    expect(visitor.page.get_by_label("Your question")).to_be_visible()
    assert (
        visitor.page.evaluate(
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('/page/') && one.transferSize).length"
        )
        == 0
    )


def test_a_folder_of_many_files_arrives_whole(visitor: Visitor, files: Shelf, api: httpx.Client) -> None:
    """Dropped, nested, more than fit in a page of the list; a few rows stand for all of them."""
    names = [f"notes/{number % 5}/note-{number}.txt" for number in range(205)]
    folder = files({name: f"Note {name} says: be kind.".encode() for name in names})
    page = visitor.page
    visitor.go("Documents")
    page.get_by_label("Collection that new files go into").fill("many")
    page.evaluate(_WATCH)
    visitor.drop(folder[0].parents[1])
    expect(page.locator("#uploads-title")).to_have_text("205 of 205 files searchable", timeout=150_000)
    shares, rows = zip(*page.evaluate("seen"), strict=True)
    shares = [share for share in shares if share >= 0]  # -1 while the folder was being looked through
    assert shares == sorted(shares), "progress went backwards"
    assert any(0 < share < 1 for share in shares)
    assert 0 < max(rows) < 40
    stored = [one for one in documents(api, "searchable") if one["collection"] == "many"]
    assert {one["uri"].split("/", 3)[3] for one in stored} == set(names)
    assert not [path for path in visitor.paths if re.match("/v1/documents/[0-9a-f]", path)]
    assert len(visitor.sent) == 205, "not each straight into the bucket, once"
    assert visitor.paths.count("/v1/uploads") < 20, "addresses are not asked for by the batch"
