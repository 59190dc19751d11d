"""A fill in a child process that can be killed; each call in a fresh copy of one that has imported all it needs."""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from functions.embed.filling import Filled, Filler
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.filling import FillStore

DIMENSION = 16
AT_ONCE = 2


def meaningless(texts: Sequence[str]) -> Any:
    """A vector for each text, always the same: what a space needs when nobody asks it anything."""
    rows = [np.frombuffer(hashlib.sha512(text.encode()).digest()[: 2 * DIMENSION], "<u2") for text in texts]
    vectors = np.array(rows, np.float32) - 32767.0
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"killed": true}, or what was filled."""
    child = os.fork()
    if child == 0:
        _fill_and_end(event)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"killed": True}
    assert status == 0, "the fill failed; its log says why"
    filled: dict[str, Any] = json.loads(Path(event["report"]).read_text())
    return filled


def _fill_and_end(event: dict[str, Any]) -> None:
    status = 1
    try:
        Path(event["report"]).write_text(json.dumps(asdict(_filled(event))))
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _filled(event: dict[str, Any]) -> Filled:
    """Writes down what it embeds before it does."""

    def encode(texts: Sequence[str]) -> Any:
        with Path(event["embedded"]).open("a") as file:
            file.writelines(hashlib.sha256(text.encode()).hexdigest() + "\n" for text in texts)
        return meaningless(texts)

    with closing(FillStore(Database(event["url"]), event["space"])) as store:
        return Filler(store, encode, at_once=AT_ONCE).run(monotonic() + 600)
