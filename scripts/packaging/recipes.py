"""What goes into each package, what is left out, and how large it may become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

MB = 2**20
MOST_MB = 250
"""Unzipped, says Lambda."""
DIRECT_MB = 50
"""Larger zips reach Lambda through a bucket only."""

Architecture = Literal["x86_64", "arm64"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
# the oldest glibc that the wheels ask for; Lambda's own is newer
PLATFORMS: Mapping[Architecture, str] = {
    "x86_64": "x86_64-manylinux_2_28",
    "arm64": "aarch64-manylinux_2_28",
}
PYTHON = "3.12"
"""Of the Lambda runtime: wheels and bytecode are made for it."""


@dataclass(frozen=True)
class Recipe:
    """functions/<folder>, shared/ and its pins without the distributions in `without`, within budget_mb unzipped.

    aws: the services it calls. model: whether it embeds. start: a script of the folder that goes to the top.
    """

    folder: str
    budget_mb: int
    aws: Sequence[str]
    without: frozenset[str] = frozenset()
    model: bool = False
    start: str | None = None


# The tokenizer's way to the hub: our tokenizers come with the package.
_HUB = {
    "filelock",
    "fsspec",
    "hf-xet",
    "httpcore2",
    "httpx2",
    "huggingface-hub",
    "pyyaml",
    "tqdm",
    "truststore",
}
# Of ONNX Runtime: for its tools, not for inference.
_ONNX = {"flatbuffers", "packaging"}
# Of uvicorn: reloading, WebSockets, and a loop that takes 16 MB to serve one request at a time.
_RELOADING = {"uvloop", "watchfiles", "websockets"}
_SERVER = {"click", "httptools", "uvicorn"}

RECIPES: Mapping[str, Recipe] = {
    "ingest": Recipe(
        "ingest", 225, ("s3", "ssm"), frozenset(_HUB | _ONNX | {"click", "protobuf"}), model=True
    ),
    "query": Recipe("query", 225, ("s3", "ssm"), frozenset(_HUB | _ONNX | _RELOADING | _SERVER), model=True),
    "query-stream": Recipe(
        "query",
        225,
        ("s3", "ssm"),
        frozenset(_HUB | _ONNX | _RELOADING | {"mangum"}),
        model=True,
        start="run.sh",
    ),
    "reindex": Recipe("reindex", 60, ("s3", "sqs", "ssm")),
}

# Of every distribution: what only developers, compilers and type checkers read.
UNUSED_FOLDERS = frozenset({"__pycache__", "test", "tests"})
UNUSED_SUFFIXES = frozenset({".a", ".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx"})
UNUSED = (
    "bin",
    "boto3/data",  # of boto3.resource
    "boto3/examples",
    "lxml/includes",
    "lxml/isoschematron",
    "lxml/objectify*",
    "numpy/f2py",
    "onnxruntime/ThirdPartyNotices.txt",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
)
# They find their parts by entry points; nobody else asks what is installed.
DESCRIBED = ("opentelemetry_*.dist-info",)
DESCRIPTIONS = frozenset({"METADATA", "entry_points.txt"})
