"""The process that forks once per document, so that each is parsed in a fresh, limited copy of it.

Started by ParserPool with a control socket as standard input and the limits as its only argument. It never reads a
document itself. On the control socket: READY goes out once; then per document a socket comes in (SCM_RIGHTS), over
which the child takes the document and answers; DONE comes in when the pool wants the child gone, and the child's
wait status and peak memory go out.
"""

from __future__ import annotations

import contextlib
import ctypes
import encodings
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import sys
from typing import NoReturn

from functions.ingest.parsing import dispatch, wire
from functions.ingest.parsing.limits import ParseLimits
from shared.core.errors import UnreadableDocument

_PR_SET_NO_NEW_PRIVS = 38
_WARMING_RUNS = 20


def main() -> None:
    control = socket.socket(fileno=0)
    limits = ParseLimits(**json.loads(sys.argv[1]))
    _load_codecs()
    _silence_stderr()
    _warm_up(limits)
    gc.collect()
    gc.freeze()  # or a collection in a child would touch, and so copy, every page
    with contextlib.suppress(ConnectionError):  # the pool is gone, and nobody waits for an answer
        control.sendall(wire.READY)
        while (document := _next(control)) is not None:
            _supervise(control, document, limits)


def _load_codecs() -> None:
    """Python loads a codec's module when it is first asked for, and the children cannot open files any more."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(ImportError):  # those of another operating system
            importlib.import_module(f"encodings.{module.name}")


def _silence_stderr() -> None:
    """Start-up problems may be told; what libraries print later may quote documents."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _warm_up(limits: ParseLimits) -> None:
    """Python rewrites code as it runs for the first times, and a page that a child writes to is copied for it alone."""
    name, data = b"a.txt", b"A few words.\n\nAnd some more of them."
    for _ in range(_WARMING_RUNS):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(wire.REQUEST.pack(len(name), len(data)) + name + data)
            theirs.sendall(_answer(theirs, limits))


def _next(control: socket.socket) -> socket.socket | None:
    _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    return socket.socket(fileno=descriptors[0]) if descriptors else None


def _supervise(control: socket.socket, document: socket.socket, limits: ParseLimits) -> None:
    child = os.fork()
    if child == 0:
        control.close()
        _run(document, limits)
    document.close()
    try:
        control.recv(1)  # DONE, or nothing when the pool died: either way the child has to go
    finally:
        os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
    control.sendall(wire.ENDED.pack(status, usage.ru_maxrss * 1024))


def _run(document: socket.socket, limits: ParseLimits) -> NoReturn:
    """The child: takes one document, answers, and ends without any of its parent's clean-up."""
    status = 1
    try:
        gc.disable()
        confine(limits)
        document.sendall(_answer(document, limits))
        status = 0
    finally:
        os._exit(status)


def _answer(document: socket.socket, limits: ParseLimits) -> bytes:
    try:
        name, data = _receive(document)
        return wire.encode(dispatch.parse(data, name=name, limits=limits))
    except UnreadableDocument as failure:
        return wire.encode_failure(failure)
    except MemoryError:
        return wire.encode_failure(limits.out_of_memory())


def _receive(document: socket.socket) -> tuple[str, bytes]:
    with document.makefile("rb") as stream:
        name_bytes, data_bytes = wire.REQUEST.unpack(stream.read(wire.REQUEST.size))
        return stream.read(name_bytes).decode("utf-8", "replace"), stream.read(data_bytes)


def confine(limits: ParseLimits) -> None:
    """From here on: no memory past the limit, no new file, socket or process, no dump of it afterwards."""
    memory = _address_space() + limits.memory_bytes
    _lower(resource.RLIMIT_AS, memory, memory)
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        _lower(kind, 0, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


_prctl = ctypes.CDLL(None).prctl


def _lower(kind: int, soft: int, hard: int) -> None:
    """Sets a limit, but never above one that is already in force."""
    current = resource.getrlimit(kind)[1]
    if current != resource.RLIM_INFINITY:
        soft, hard = min(soft, current), min(hard, current)
    resource.setrlimit(kind, (soft, hard))


def _address_space() -> int:
    """Bytes of address space in use."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
