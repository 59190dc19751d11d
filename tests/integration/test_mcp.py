"""The tools over the Model Context Protocol, called by the official client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation

if TYPE_CHECKING:
    from mcp import Client

TEXT = "The lighthouse on the eastern mole was built in 1911 by Ada Lindqvist."


@pytest.fixture
def url(installation: Installation) -> Iterator[str]:
    installation.put("light.txt", TEXT, {"year": "1911"})
    installation.put("board.txt", "The lighthouse key is under the mat.", {"acl": "board"})
    installation.deliver()
    with serving(create_app(installation.query_settings(), installation.embedder)) as address:
        yield address


@asynccontextmanager
async def talking(url: str, key: str, mode: str) -> AsyncIterator[Client]:
    from mcp import Client  # heavy: a second and a half to import
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    async with create_mcp_http_client(headers=bearer(key)) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def called(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    found: dict[str, Any] = result.structured_content
    return found


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_official_client_calls_every_tool(installation: Installation, url: str, mode: str) -> None:
    """With the handshake, with discovery, and with neither."""
    async with talking(url, installation.api_key, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "ask", "list_documents", "get_document"}
        assert tools["ask"].input_schema["required"] == ["question"]
        found = await called(client, "search", question="Who built the lighthouse?", filter={"year": 1911})
        (passage,) = found["results"]
        assert passage["text"] == TEXT
        answer = await called(client, "ask", question="Who built the lighthouse?")
        assert "Ada Lindqvist" in answer["answer"]
        assert answer["citations"]
        listed = await called(client, "list_documents", status="searchable", limit=1)
        assert (len(listed["items"]), bool(listed["next_cursor"])) == (1, True)
        got = await called(client, "get_document", id=passage["document_id"])
        assert (got["document"]["uri"], got["text"]["items"][0]["text"]) == (passage["uri"], TEXT)


async def test_what_is_wrong_with_a_call_is_told_to_who_made_it(installation: Installation, url: str) -> None:
    async with talking(url, installation.api_key, "auto") as client:
        for name, arguments, reason in (
            ("search", {}, "question"),
            ("search", {"question": "x", "top_k": 1000}, "top_k"),
            ("search", {"question": "x", "filter": {"$nor": 1}}, "filter"),
            ("get_document", {"id": str(installation.tenant)}, "no such document"),
            ("list_documents", {"cursor": "x"}, "cursor"),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error
            assert reason in result.content[0].text
        with pytest.raises(Exception, match="there are the tools"):
            await client.call_tool("drop_tables", {})


async def test_a_tool_sees_what_the_key_sees(installation: Installation, url: str) -> None:
    installation.rows("update api_keys set acl = '{staff}' where scopes @> '{admin}' returning 1")
    async with talking(url, installation.admin_key, "auto") as client:
        found = await called(client, "search", question="Where is the lighthouse key?")
        assert all("mat" not in one["text"] for one in found["results"])
        assert len((await called(client, "list_documents"))["items"]) == 1


def say(api: TestClient, message: Any, **headers: str) -> httpx.Response:
    return api.post("/mcp", json=message, headers=headers)


def asked(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def test_a_key_is_needed_and_its_scope(installation: Installation, api: TestClient) -> None:
    for key in ("", "rz_test_x", installation.api_key[:-1] + "g"):
        refused = say(api, asked("tools/list"), Authorization=f"Bearer {key}")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    uploader = installation.add_key(installation.tenant, ["ingest"])
    for name, arguments in (
        ("search", {"question": "x"}),
        ("ask", {"question": "x"}),
        ("list_documents", {}),
    ):
        call = asked("tools/call", name=name, arguments=arguments)
        assert say(api, call, **bearer(uploader)).status_code == 403


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ([], -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}, -32600),
        (asked("resources/list"), -32601),
        (asked("tools/call", name="x"), -32602),
    ],
)
def test_a_malformed_message_is_refused(quiet_api: TestClient, message: Any, code: int) -> None:
    answer = say(quiet_api, message)
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)


def test_what_is_no_json_and_other_methods_are_refused(quiet_api: TestClient) -> None:
    answer = quiet_api.post("/mcp", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.json()["error"]["code"] == -32700
    assert quiet_api.get("/mcp").status_code == quiet_api.delete("/mcp").status_code == 405


def enveloped(method: str, version: str = "2026-07-28", **params: Any) -> dict[str, Any]:
    envelope = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return asked(method, _meta=envelope, **params)


def test_headers_that_say_something_else_than_the_message_are_refused(quiet_api: TestClient) -> None:
    """What a proxy decides by must be what happens."""
    good = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    assert say(quiet_api, enveloped("tools/list"), **good).status_code == 200
    for bad in ({"Mcp-Method": "ping"}, {"MCP-Protocol-Version": "2025-06-18"}):
        answer = say(quiet_api, enveloped("tools/list"), **good | bad)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
    call = enveloped("tools/call", name="search", arguments={"question": "x"})
    named = good | {"Mcp-Method": "tools/call", "Mcp-Name": "list_documents"}
    assert say(quiet_api, call, **named).json()["error"]["code"] == -32020
    other = good | {"MCP-Protocol-Version": "2030-01-01"}
    refused = say(quiet_api, enveloped("tools/list", "2030-01-01"), **other).json()["error"]
    assert (refused["code"], refused["data"]["requested"]) == (-32022, "2030-01-01")


def test_a_notification_is_not_answered(quiet_api: TestClient) -> None:
    answer = say(quiet_api, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (answer.status_code, answer.content) == (202, b"")
