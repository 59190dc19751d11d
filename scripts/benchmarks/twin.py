"""What an answer that was given before takes through the twin's gateway, and what the gateway itself takes of that.

scripts/bench twin [--requests 300]. The floor is a function that does nothing, behind an HTTP API of the same gateway,
run by the same host; hits and it are asked in turns, one request at a time over one connection.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx

from scripts.benchmarks.throwaway import MODEL, percentile, report
from scripts.local.demo import show
from scripts.local.twin import Twin

_FLOOR = """
BODY = "x" * 2048
def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": BODY}
"""
_QUESTION = {"question": "When was the main telescope last re-coated?"}
_WARM = 20


def floor(twin: Twin) -> str:
    """Where the function that does nothing answers."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("floor.py", _FLOOR)
    function = twin.aws.client("lambda").create_function(
        FunctionName="floor",
        Runtime="python3.12",
        Role="arn:aws:iam::000000000000:role/floor",
        Handler="floor.handler",
        MemorySize=2048,
        Code={"ZipFile": zipped.getvalue()},
        Environment={"Variables": {"MINISTACK_LAMBDA_PROXY_URL": f"{twin.host.url}/floor"}},
    )
    gateway = twin.aws.client("apigatewayv2")
    api = gateway.create_api(Name="floor", ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=api,
        IntegrationType="AWS_PROXY",
        IntegrationUri=function["FunctionArn"],
        PayloadFormatVersion="2.0",
    )
    target = f"integrations/{integration['IntegrationId']}"
    gateway.create_route(ApiId=api, RouteKey="$default", Target=target)
    gateway.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
    return f"{twin.aws.url}/_aws/execute-api/{api}/%24default/"


def measured(twin: Twin, requests: int) -> dict[str, list[float]]:
    """Milliseconds of each request, by what was asked."""
    address = floor(twin)
    headers = {"Authorization": f"Bearer {twin.secrets.api_key}"}
    with httpx.Client(timeout=60, headers=headers) as client:
        asked: dict[str, Callable[[], httpx.Response]] = {
            "floor": lambda: client.post(address, json=_QUESTION),
            "hit": lambda: client.post(f"{twin.url}/v1/query", json=_QUESTION),
            "probe": lambda: client.get(f"{twin.url}/healthz"),
        }
        taken: dict[str, list[float]] = {name: [] for name in asked}
        for number in range(_WARM + requests):
            for name, ask in asked.items():
                began = time.perf_counter()
                answer = ask().raise_for_status()
                took = (time.perf_counter() - began) * 1000
                if number >= _WARM:
                    taken[name].append(took)
                    assert name != "hit" or answer.json()["cached"] == "exact"
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench twin", description=__doc__)
    parser.add_argument("--requests", type=int, default=300)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="ragzero-twin-") as folder:
        Path(folder).chmod(0o711)
        twin = Twin(Path(folder) / "twin", MODEL, lambda line: print(line, file=sys.stderr), tethered=True)
        try:
            began = time.monotonic()
            twin.start()
            ready_s = time.monotonic() - began
            show(twin.environment, put_samples=True)
            taken = measured(twin, requests)
        finally:
            twin.stop()
    p50 = {name: percentile(values, 0.5) for name, values in taken.items()}
    report(
        ready_s=round(ready_s, 1),
        requests=requests,
        p50_ms=p50,
        p95_ms={name: percentile(values, 0.95) for name, values in taken.items()},
        hit_over_floor_ms=round(p50["hit"] - p50["floor"], 2),
    )


if __name__ == "__main__":
    main()
