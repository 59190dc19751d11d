"""How the parts of an Office Open XML file point at each other (ECMA-376 part 2, relationships)."""

from __future__ import annotations

import posixpath

from functions.ingest.parsing import safe_xml
from functions.ingest.parsing.archive import Archive, resolve
from functions.ingest.parsing.draft import Draft
from shared.core.errors import UnreadableDocument


def relationships(archive: Archive, part: str) -> dict[str, tuple[str, str]]:
    """(kind, member) by relationship id; links to anything outside the archive are left out."""
    folder, name = posixpath.split(part)
    data = archive.get(posixpath.join(folder, "_rels", f"{name}.rels"))
    if data is None:
        return {}
    found = {}
    for link in safe_xml.parse(data):
        member = resolve(part, link.get("Target") or "")
        if link.get("TargetMode") != "External" and member in archive:
            found[link.get("Id") or ""] = ((link.get("Type") or "").rpartition("/")[2], member)
    return found


def related_part(archive: Archive, part: str, kind: str) -> str | None:
    return next((member for found, member in relationships(archive, part).values() if found == kind), None)


def main_part(archive: Archive, usual: str) -> str:
    """The member that holds the document itself."""
    name = related_part(archive, "", "officeDocument") or usual
    if name not in archive:
        raise UnreadableDocument("damaged", f"The Office file has no {usual}.")
    return name


def flag_extras(archive: Archive, draft: Draft) -> None:
    """Notes macros and embedded files, which are never opened."""
    names = archive.names
    if any(name.endswith("vbaProject.bin") or "/activeX/" in name for name in names):
        draft.flags.add("active_content_ignored")
    if any("/embeddings/" in name for name in names):
        draft.flags.add("attachments_ignored")
