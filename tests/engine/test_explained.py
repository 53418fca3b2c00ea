"""Which earlier builds a miss is compared with."""

from __future__ import annotations

import json
from pathlib import Path

from imgbuild.engine.explained import earlier_builds
from imgbuild.insight.earlier import parse_earlier
from imgbuild.store import journal
from imgbuild.store.store import Store


def _record(build: str, started: float) -> dict[str, object]:
    step = {"number": 1, "key": f"key-{build}", "name": "RUN true", "outcome": "done"}
    return {"id": build, "started": started, "ended": started + 1, "status": "done", "buildfile": "/b", "target": "", "steps": [step]}


def _line(record: dict[str, object]) -> str:
    return json.dumps(record, separators=(",", ":"))


def test_builds_that_were_as_another_one_do_not_take_the_room_of_earlier_ones(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        journal.append(store.root, _line(_record("first", 10.0)))
        journal.append(store.root, _line(_record("last", 20.0)))
        for number in range(20):
            journal.append_same(store.root, f"same{number}", 30.0 + number, 31.0 + number, "last")
        told = [build.id for build in earlier_builds(store, parse_earlier(_record("now", 99.0)))]
    assert told[:2] == ["last", "first"]
    assert len(set(told)) == len(told)
