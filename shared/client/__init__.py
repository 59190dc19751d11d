"""A client of ragzero's HTTP API, in both colours; it needs httpx and nothing else.

with Ragzero("https://rag.example.org", key) as rag:
    rag.upload([Path("report.pdf")])
    print(rag.ask("What was decided about the north pier?")["answer"])

async with AsyncRagzero(url, key) as rag:
    async for event in rag.stream("What was decided about the north pier?"):
        print(event["data"])
"""

from .aio import AsyncRagzero
from .errors import ApiError, RagzeroError, StreamBroken, Unreachable, UploadFailed
from .sync import Ragzero
from .uploading import Progress, Upload

__all__ = [
    "ApiError",
    "AsyncRagzero",
    "Progress",
    "Ragzero",
    "RagzeroError",
    "StreamBroken",
    "Unreachable",
    "Upload",
    "UploadFailed",
]
