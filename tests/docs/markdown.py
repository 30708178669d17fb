"""Markdown as the tests of the documents need it: fenced blocks, links, anchors."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, what it is written in, its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which a table may name it."""
        return self.text.partition("\n")[0]

    def __str__(self) -> str:
        """Tell where it is."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    inside: list[str] | None = None
    language, began = "", 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```") and inside is None:
            inside, language, began = [], line[3:].strip(), number
        elif line.startswith("```") and inside is not None:
            yield Block(page, began, language, "\n".join(inside) + "\n")
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{page}:{began}: the block has no end"


def commands(text: str) -> list[str]:
    """Split a shell script into its commands: pipelines, here-documents and continued lines stay whole."""
    found: list[str] = []
    pending: list[str] = []
    for line in text.splitlines():
        if not pending and not line.strip():
            continue
        pending.append(line)
        whole = "\n".join(pending)
        if not line.endswith("\\") and _is_whole(whole):
            found.append(whole)
            pending = []
    assert not pending, f"no whole command: {pending}"
    return found


def _is_whole(script: str) -> bool:
    # Of a here-document without its end bash only warns.
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, check=False)
    return done.returncode == 0 and not done.stderr


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual forges make them."""
    made = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        made.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return made
