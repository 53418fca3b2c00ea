"""``replays/``: notes of what was found before, each a file that may go at any time, and does where something is collected."""

from __future__ import annotations

import os

from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import explained

DIRECTORY = "replays"
_MOST_NOTES = 100


def forget_notes(root: Path) -> None:
    """Let all of them go: before anything does that they may tell of, or what they stand on."""
    directory = root / DIRECTORY
    with explained(directory), suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            if not entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)


def trim_notes(root: Path) -> None:
    """Let the oldest notes go where there are many."""
    with suppress(OSError):
        notes = [entry for entry in os.scandir(root / DIRECTORY) if entry.is_file(follow_symlinks=False)]
        if len(notes) > _MOST_NOTES:
            for entry in sorted(notes, key=lambda entry: entry.stat().st_mtime_ns)[: _MOST_NOTES // 4]:
                os.unlink(entry.path)
