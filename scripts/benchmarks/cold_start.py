"""What it takes until a package answers, under AWS's own runtime client: scripts/bench cold-start [--runs 5].

init: from the start of the process until it asks for its first call, settings from SSM included. first: that call
(a probe for query, one document for ingest, a sweep of an empty bucket for reindex). first_question: of a query function
that has just started. peak: memory of all its processes. The ratios compare import and first probe against the import of
all that is not ours, run by turns: the median of the pairs, of processor time, which other work on the machine hardly
changes, and of wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.throwaway import MODEL, report, stack
from scripts.local.aws import LocalAws
from scripts.local.packaged import Packaged, Runtime
from scripts.local.process import free_port
from scripts.local.stack import BUCKET, Stack
from scripts.packaging.build import Package, build_all
from scripts.packaging.layers import here
from scripts.packaging.recipes import MB

HANDLERS = {name: f"functions.{name}.handler.handler" for name in ("query", "ingest", "reindex")}
Times = Sequence[float]
"""Seconds: of the processor, and of the wall."""
_SECRETS = ("DATABASE_URL", "RAGZERO_KEY_PEPPER", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN")
_MEMORY_MB = 2048
_PAIRS = 25
_QUESTION = "When was the main telescope last re-coated?"
_TEXT = "The main telescope was last re-coated in the spring of 2019."
_PROBE = """
import time
began = time.process_time(), time.perf_counter()
import json, sys
from functions.query.handler import handler
assert handler(json.loads(sys.argv[1]), None)["statusCode"] == 200
took = time.process_time() - began[0], time.perf_counter() - began[1]
file = lambda module: getattr(module, "__file__", None) or ""
others = [name for name, module in sys.modules.items() if file(module).startswith(sys.argv[2])]
print(json.dumps([took, [name for name in others if name.partition(".")[0] not in ("functions", "shared")]]))
"""
_OTHERS = """
import time
began = time.process_time(), time.perf_counter()
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps([time.process_time() - began[0], time.perf_counter() - began[1]]))
"""
_ENOUGH = {
    "AWS_LAMBDA_FUNCTION_NAME": "query",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nowhere",
    "RAGZERO_BUCKET": "documents",
    "RAGZERO_MODEL_DIR": "/nowhere",
    "RAGZERO_KEY_PEPPER": "a pepper for measuring",
}


@dataclass(frozen=True)
class Bench:
    """Unpacked packages, and a local ragzero for them to work with."""

    local: Stack
    parameters: LocalAws
    runtime: Runtime
    folder: Path
    packages: Mapping[str, Package]
    runs: int

    def measured(self, name: str) -> dict[str, Any]:
        taken = [self._start(name, number) for number in range(self.runs)]
        package = self.packages[name]
        return {
            "zip_mb": round(package.zipped / MB, 1),
            "unzipped_mb": round(package.unzipped / MB, 1),
            **{key: round(statistics.median(each[key] for each in taken), 1) for key in taken[0]},
        }

    def _start(self, name: str, number: int) -> dict[str, float]:
        function = Packaged(
            self.folder / name,
            HANDLERS[name],
            self._environment(name),
            self.runtime,
            self.folder / f"{name}.log",
            memory_mb=_MEMORY_MB,
        )
        try:
            function.start()
            first = _timed(function, self._first_event(name, number))
            more = {"first_question_ms": _timed(function, self._question())} if name == "query" else {}
            again = self._question() if name == "query" else self._first_event(name, number + 100)
            return {
                "init_ms": function.init_s * 1000,
                "first_ms": first,
                **more,
                "next_ms": _timed(function, again),
                "peak_mb": function.peak_mb(),
            }
        finally:
            function.kill()

    def _environment(self, name: str) -> dict[str, str]:
        """As Terraform sets it: secrets only in SSM."""
        server = next(each for each in self.local.functions if each.name == {"query": "api"}.get(name, name))
        told = {key: value for key, value in server.variables.items() if not key.startswith("RAGZERO_EMBED_")}
        ssm = self.parameters.client("ssm")
        for secret in _SECRETS:
            if secret in told:
                path = f"/ragzero/bench/{name}/{secret}"
                ssm.put_parameter(Name=path, Value=told.pop(secret), Type="SecureString", Overwrite=True)
        model = {} if name == "reindex" else {"RAGZERO_MODEL_DIR": "/var/task/model"}
        prefix = {
            "RAGZERO_SSM_PREFIX": f"/ragzero/bench/{name}",
            "AWS_ENDPOINT_URL_SSM": self.parameters.url,
        }
        return told | model | prefix

    def _first_event(self, name: str, number: int) -> dict[str, Any]:
        if name == "reindex":
            return {"task": "sweep"}
        return http("GET", "/healthz") if name == "query" else self._upload(number)

    def _question(self) -> dict[str, Any]:
        body = {"question": _QUESTION, "cache": "bypass"}
        return http("POST", "/v1/query", {"authorization": f"Bearer {self.local.secrets.api_key}"}, body)

    def _upload(self, number: int) -> dict[str, Any]:
        """The event of a document that nobody has worked on."""
        key = f"bench/{time.time_ns()}-{number}.txt"
        self.local.aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=f"{_TEXT} {key}".encode())
        told = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "sequencer": f"{time.time_ns():x}"}},
        }
        return {"Records": [{"messageId": key, "body": json.dumps({"Records": [told]})}]}


def http(
    method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
) -> dict[str, Any]:
    """A request as an HTTP API hands it on."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "api.example", "content-type": "application/json", **(headers or {})},
        "requestContext": {
            "stage": "$default",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
        },
        "isBase64Encoded": False,
    }
    return event if body is None else event | {"body": json.dumps(body)}


def _timed(function: Packaged, event: dict[str, Any]) -> float:
    """Milliseconds; a refusal ends the measurement."""
    began = time.perf_counter()
    answer = function.invoke(event, timeout=60)
    took = (time.perf_counter() - began) * 1000
    if answer.get("statusCode", 200) != 200 or answer.get("batchItemFailures"):
        raise SystemExit(f"the function refused: {json.dumps(answer)[:500]}")
    return took


def ratio(package: Path, runtime: Runtime, pairs: int) -> dict[str, float]:
    _, others = _probed(package, runtime)
    taken = [(_probed(package, runtime)[0], _imported(package, runtime, others)) for _ in range(pairs)]
    whole, rest = (statistics.median(pair[part][0] for pair in taken) for part in (0, 1))
    return {
        "import_and_probe_ms": round(whole * 1000, 1),
        "imports_of_others_ms": round(rest * 1000, 1),
        "ratio": _median_ratio(taken, 0),
        "ratio_of_wall_time": _median_ratio(taken, 1),
    }


def _median_ratio(pairs: list[tuple[Times, Times]], clock: int) -> float:
    return round(statistics.median(probed[clock] / others[clock] for probed, others in pairs), 3)


def _probed(package: Path, runtime: Runtime) -> tuple[Times, list[str]]:
    """The modules of others that it loaded, too."""
    took, others = _run(package, runtime, _PROBE, json.dumps(http("GET", "/healthz")), str(package))
    return took, others


def _imported(package: Path, runtime: Runtime, names: list[str]) -> Times:
    took: Times = _run(package, runtime, _OTHERS, json.dumps(names))
    return took


def _run(package: Path, runtime: Runtime, code: str, *arguments: str) -> Any:
    done = subprocess.run(
        [runtime.python, "-c", code, *arguments],
        cwd=package,
        env=_ENOUGH | {"PYTHONPATH": str(package), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def prepared(runs: int) -> Iterator[Bench]:
    target = here(MODEL)
    with tempfile.TemporaryDirectory(prefix="ragzero-cold-") as name, stack(rest=True) as local:
        folder = Path(name)
        for function in local.functions:
            if function.name in HANDLERS:
                function.stop()  # the packages do its work
        packages = {each.name: each for each in build_all(HANDLERS, target, folder / "zips")}
        for each in packages.values():
            with zipfile.ZipFile(each.path) as archive:
                archive.extractall(folder / each.name)
        with LocalAws(folder / "ssm", port=free_port(), durable=False, services=("ssm", "kms")) as parameters:
            assert isinstance(parameters, LocalAws)
            runtime = Runtime.prepared(folder / "runtime", target.python)
            yield Bench(local, parameters, runtime, folder, packages, runs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench cold-start", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with prepared(runs) as bench:
        found = {name: bench.measured(name) for name in HANDLERS}
        report(
            python=bench.runtime.version,
            memory_mb=_MEMORY_MB,
            runs=runs,
            functions=found,
            query_over_imports=ratio(bench.folder / "query", bench.runtime, _PAIRS),
        )


if __name__ == "__main__":
    main()
