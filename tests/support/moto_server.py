"""Moto's AWS on this machine: `python -m tests.support.moto_server -H 127.0.0.1 -p PORT`, and its Server.

It knows REST APIs with an OpenAPI body and RDS clusters, which ministack does not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import boto3
import httpx

from scripts.local.process import HOST, Server

REGION = "eu-central-1"


class Moto(Server):
    name = "moto"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", __name__, "-H", HOST, "-p", str(self.port)]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """What Terraform's environment needs to come here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
        }

    def probe(self) -> bool:
        try:
            return httpx.get(f"{self.url}/moto-api/", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, service: str) -> Any:
        make: Any = boto3.client  # the stubs want the service's name as a literal
        return make(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )


def _serve() -> None:
    """moto cannot tell whether a request came over TLS and takes every such Deny for a match, so those do not count."""
    from moto.iam.access_control import IAMPolicyStatement, PermissionResult
    from moto.server import main

    judged = IAMPolicyStatement.is_action_permitted

    def judge(self: Any, *arguments: Any) -> Any:
        if "aws:SecureTransport" in self._statement.get("Condition", {}).get("Bool", {}):
            return PermissionResult.NEUTRAL
        return judged(self, *arguments)

    IAMPolicyStatement.is_action_permitted = judge  # type: ignore[method-assign]
    main(sys.argv[1:])


if __name__ == "__main__":
    _serve()
