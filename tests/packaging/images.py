"""What can be told of a Dockerfile without an engine: its steps, and the files that end up in the image."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Image:
    path: Path

    @cached_property
    def stages(self) -> list[list[tuple[str, str]]]:
        """(instruction, rest) of each stage, its FROM first."""
        lines = self.path.read_text().replace("\\\n", " ").splitlines()
        steps = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
        stages: list[list[tuple[str, str]]] = [[]]
        for instruction, rest in steps:
            if instruction == "FROM":
                stages.append([])
            stages[-1].append((instruction, rest.strip()))
        return stages

    def values(self, instruction: str) -> list[str]:
        """Of the last stage, which is what runs."""
        return [rest for name, rest in self.stages[-1] if name == instruction]

    @property
    def command(self) -> list[str]:
        found: list[str] = json.loads(self.values("CMD")[0])
        return found

    @property
    def copied(self) -> list[tuple[str, str]]:
        """(source in the repository, target in the image) of the last stage."""
        plain = [each.split() for each in self.values("COPY") if not each.startswith("--from")]
        return [(source, target) for *sources, target in plain for source in sources]

    @property
    def environment(self) -> dict[str, str]:
        pairs = " ".join(self.values("ENV")).split()
        return dict(pair.split("=", 1) for pair in pairs)

    def lay_out(self, root: Path) -> Path:
        """The image's own files, but for the model, in a folder that stands for its root; the working directory."""
        work = root / self.values("WORKDIR")[0].lstrip("/")
        for source, target in self.copied:
            if (ROOT / source).is_file():
                (work / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, work / target)
            elif not target.startswith("/"):
                shutil.copytree(ROOT / source, work / target, ignore=shutil.ignore_patterns("__pycache__"))
        return work
