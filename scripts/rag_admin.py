"""Tenants and keys. Asks the API with RAGZERO_ADMIN_KEY."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.table import Table

from scripts.rag import Failure, call, connect, console
from shared.client import Ragzero

_SCOPES = ("query", "ingest", "admin")
_PER_PAGE = 200


def make_tenant(api: Ragzero, given: argparse.Namespace) -> int:
    limits = _given(given, "rate", "burst", "streams", "budget_usd")
    made = call(api, "POST", "/v1/admin/tenants", json={"name": given.name, "limits": limits})
    print(made["id"])
    return 0


def tenants(api: Ragzero, _given: argparse.Namespace) -> int:
    table = Table("id", "name", "documents", "limits", "closed", box=None)
    for one in everything(api, "/v1/admin/tenants"):
        table.add_row(one["id"], one["name"], str(one["documents"]), _limits(one), _moment(one["closed_at"]))
    console.print(table)
    return 0


def close_tenant(api: Ragzero, given: argparse.Namespace) -> int:
    closed = call(api, "DELETE", f"/v1/admin/tenants/{given.id}", params={"confirm": given.confirm})
    console.print(f"closed {closed['name']}. {closed['detail']}", highlight=False, markup=False)
    return 0


def make_key(api: Ragzero, given: argparse.Namespace) -> int:
    """The key alone on standard output, so that it can be piped to where it is kept."""
    body = _given(given, "ttl_days", "expires_at") | {
        "tenant_id": given.tenant,
        "name": given.name,
        "scopes": given.scope or ["query"],
        "limits": _given(given, "rate", "burst"),
    }
    if given.acl is not None:
        body["acl"] = [label for label in given.acl.split(",") if label]
    made = call(api, "POST", "/v1/admin/keys", json=body)
    print(f"rag: key {made['id']}; this is the only time it is shown", file=sys.stderr)
    print(made["key"])
    return 0


def keys(api: Ragzero, given: argparse.Namespace) -> int:
    table = Table("id", "name", "scopes", "labels", "limits", "last used", "ends", box=None)
    for one in everything(api, "/v1/admin/keys", **_given(given, "tenant_id")):
        ended = f"revoked {_moment(one['revoked_at'])}" if one["revoked_at"] else _moment(one["expires_at"])
        labels = "all" if one["acl"] is None else ",".join(one["acl"]) or "none"
        used = _moment(one["last_used_at"])
        table.add_row(one["id"], one["name"], ",".join(one["scopes"]), labels, _limits(one), used, ended)
    console.print(table)
    return 0


def revoke_key(api: Ragzero, given: argparse.Namespace) -> int:
    revoked = call(api, "DELETE", f"/v1/admin/keys/{given.id}")
    effective = "from now on" if revoked["coherent"] else f"at {revoked['until']} at the latest"
    console.print(f"revoked {revoked['name']}, refused {effective}", highlight=False, markup=False)
    return 0


def everything(api: Ragzero, path: str, **params: Any) -> Iterator[dict[str, Any]]:
    """The items of all pages."""
    cursor: dict[str, str] = {}
    while True:
        page = call(api, "GET", path, params={"limit": _PER_PAGE} | params | cursor)
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _given(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(given, name)) is not None}


def _limits(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in row["limits"].items() if value is not None)


def _moment(text: str | None) -> str:
    return text[:16].replace("T", " ") if text else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rag admin", description=__doc__)
    things = parser.add_subparsers(required=True, metavar="tenant | key")
    for_tenants = things.add_parser("tenant").add_subparsers(required=True, metavar="create | ls | close")
    for_keys = things.add_parser("key").add_subparsers(required=True, metavar="create | ls | revoke")

    def command(of: Any, name: str, run: Callable[[Ragzero, argparse.Namespace], int], help: str) -> Any:
        made = of.add_parser(name, help=help)
        made.set_defaults(run=run)
        return made

    one = command(for_tenants, "create", make_tenant, "prints the new tenant's id")
    one.add_argument("name")
    _add_limits(one, "--rate", "--burst", "--streams", "--budget-usd")
    command(for_tenants, "ls", tenants, "all tenants")
    one = command(for_tenants, "close", close_tenant, "nothing of it is visible or accepted any more")
    one.add_argument("id")
    one.add_argument("--confirm", required=True, metavar="NAME", help="the tenant's name")
    one = command(for_keys, "create", make_key, "prints the new key, which is never shown again")
    one.add_argument("tenant", help="id")
    one.add_argument("name")
    one.add_argument("--scope", action="append", choices=_SCOPES, help="query unless said; may be repeated")
    one.add_argument("--acl", help="labels with commas; '' for documents without labels alone")
    one.add_argument("--ttl-days", type=int)
    one.add_argument("--expires-at", metavar="TIME", help="ISO 8601 with a time zone")
    _add_limits(one, "--rate", "--burst")
    one = command(for_keys, "ls", keys, "keys, never their secrets")
    one.add_argument("--tenant", dest="tenant_id", metavar="ID")
    command(for_keys, "revoke", revoke_key, "refused from the next request on").add_argument("id")
    return parser


def _add_limits(parser: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        parser.add_argument(name, type=int if name in ("--burst", "--streams") else float)


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    try:
        with connect("RAGZERO_ADMIN_KEY") as api:
            return int(given.run(api, given))
    except Failure as failure:
        print(f"rag admin: {failure}", file=sys.stderr)
        return 1
