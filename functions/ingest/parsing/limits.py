"""How much one document may cost."""

from __future__ import annotations

from dataclasses import dataclass

from shared.core.errors import UnreadableDocument

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """Bounds of one parse. memory_bytes counts above what the idle parser process already uses;
    wall_seconds leaves out the time during which the calling process was suspended."""

    input_bytes: int = 100 * MIB
    text_bytes: int = 64 * MIB
    blocks: int = 1_000_000
    pages: int = 20_000
    wall_seconds: float = 30.0
    cpu_seconds: int = 20
    memory_bytes: int = 1024 * MIB

    def too_large(self, size: int) -> UnreadableDocument:
        return UnreadableDocument(
            "too_large", f"The file has {size} bytes; at most {self.input_bytes} are read."
        )

    def out_of_memory(self) -> UnreadableDocument:
        mib = self.memory_bytes / MIB
        return UnreadableDocument("out_of_memory", f"Reading the file takes more than {mib:g} MiB of memory.")

    def too_slow(self) -> UnreadableDocument:
        allowed = f"{self.wall_seconds:g} s, or {self.cpu_seconds} s of processor time"
        return UnreadableDocument("timeout", f"Reading the file takes longer than {allowed}.")

    def too_much_text(self) -> UnreadableDocument:
        mib = self.text_bytes / MIB
        detail = f"The document holds more text than the limit of {mib:g} MiB or {self.blocks} blocks."
        return UnreadableDocument("too_much_text", detail)
