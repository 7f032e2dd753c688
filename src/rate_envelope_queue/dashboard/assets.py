"""The files of the page, read once; there are no others, whatever a path says."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """One file: its content, its type, and a tag that changes with it."""

    content: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """Every file, by its path."""
    return dict(_walk(files("rate_envelope_queue.dashboard") / "static", ""))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for item in folder.iterdir():
        if item.is_dir():
            found += _walk(item, f"{prefix}{item.name}/")
        elif item.name.rpartition(".")[2] in TYPES:
            content = item.read_bytes()
            tag = f'"{sha256(content).hexdigest()[:32]}"'
            found.append((prefix + item.name, Asset(content, TYPES[item.name.rpartition(".")[2]], tag)))
    return found
