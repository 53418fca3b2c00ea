"""What builds that have not ended have said so far: the files ``running`` in their directories, which `solve.output` writes.

The first line is the header of the record; each of the others says more of a step, by its "number", or how the build ended, where the
journal could not hold that. Behind the last line there may be room that was taken for more, all zeros.
"""

from __future__ import annotations

import fcntl
import os

from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.journal import ENDING, RUNNING, opener
from imgbuild.store.locks import try_flock
from imgbuild.store.logs import has_log, log_name
from imgbuild.store.records import Record, admitted, is_step


def is_running(directory: Path) -> bool:
    """Whether somebody holds the directory of a build."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not try_flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def said_by(root: Path, directory: Path) -> Record | None:
    """The record that a build has left so far: "running", or as it ended if it said so. None where it said nothing of use."""
    lines = []
    for line in _read(directory / RUNNING).split(b"\n"):
        with suppress(ValueError, RecursionError):
            lines.append(json.loads(line.strip(b"\0") or b"null"))
    said = [line for line in lines if isinstance(line, dict)]
    if not said or said[0].get("id") != directory.name:
        return None
    steps: dict[int, Record] = {}
    for step in filter(is_step, said[1:]):
        steps[step["number"]] = {**steps.get(step["number"], {}), **step}
    own = [_under_way(root, directory.name, steps[number]) for number in sorted(steps)]
    record = {**said[0], "status": "running", "ended": said[0].get("started"), "steps": own}
    ending = next((line[ENDING] for line in reversed(said) if isinstance(line.get(ENDING), dict)), None)
    if ending is not None:
        steps_over = [{**step, "outcome": "canceled"} if step["outcome"] == "running" else step for step in own]
        record = {**record, **ending, "id": directory.name, "steps": steps_over}
    return admitted(record)


def left_by(root: Path, directory: Path) -> Record | None:
    """The record of a build that is not running any more: as it ended, or "interrupted" when it was last heard of. None where there is
    none, or it runs."""
    try:
        heard = os.stat(directory / RUNNING).st_mtime
    except OSError:
        return None
    if is_running(directory) or (record := said_by(root, directory)) is None:
        return None
    if record["status"] != "running":
        return record
    with suppress(OSError):
        heard = max(heard, *(entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(directory)))
    ended = max(heard, record["started"])
    steps = [_cut_off(step, ended - record["started"]) for step in record["steps"]]
    return {**record, "status": "interrupted", "ended": ended, "steps": steps}


def _cut_off(step: Record, until: float) -> Record:
    """A step as it is when its build was killed: what ran did so to the last that was heard of it."""
    if step["outcome"] != "running":
        return step
    began = step.get("started")
    lasted = {"seconds": round(max(0.0, until - began), 6)} if isinstance(began, float | int) else {}
    return {**step, "outcome": "interrupted", **lasted}


def _under_way(root: Path, build: str, step: Record) -> Record:
    """A step of a build that has not ended. What it has written so far is there; only its end would have told so."""
    if isinstance(step.get("outcome"), str):
        return step
    log = log_name(build, step["number"])
    return {**step, "outcome": "running", **({"log": log} if has_log(root, log) else {})}


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=opener) as stream:
            return stream.read() or b""
    except OSError:
        return b""
