"""How ``ps`` shows containers: which, in which order, and as which text."""

from __future__ import annotations

from datetime import UTC, datetime

from imgbuild.errors import UsageError
from imgbuild.hints import Callable, Iterable, Iterator, Sequence
from imgbuild.light import json
from imgbuild.runtime.records import ContainerRecord

_COLUMNS = (
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "RunningFor"), ("STATUS", "Status"), ("NAMES", "Names"),
)  # fmt: skip
_HEADS = {
    **{key: head for head, key in _COLUMNS}, "CreatedAt": "CREATED AT", "State": "STATE", "Labels": "LABELS", "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
}  # fmt: skip
_COMMAND_WIDTH = 22
_STEPS = ((60, "second", 1), (3600, "minute", 60), (2 * 86400, "hour", 3600), (14 * 86400, "day", 86400), (60 * 86400, "week", 7 * 86400))


def chosen(
    records: Sequence[ContainerRecord], filters: Iterable[str], *, everything: bool, last: int | None
) -> tuple[ContainerRecord, ...]:
    """Those to be shown, newest first. Different keys must all be met, of one key any value."""
    tests: dict[str, list[Callable[[ContainerRecord], bool]]] = {}
    for word in filters:
        key, _, value = word.partition("=")
        tests.setdefault(key, []).append(_test(key, value, word))
    shown_anyway = everything or last is not None or bool({"status", "exited"} & tests.keys())
    found = [
        record
        for record in records
        if (shown_anyway or record.state == "running") and all(any(test(record) for test in same) for same in tests.values())
    ]
    return tuple(found if last is None else found[:last])


def listing(records: Iterable[ContainerRecord], *, form: str, quiet: bool, no_trunc: bool, now: float) -> Iterator[str]:
    """The lines of the list."""
    rows = [fields(record, now=now, whole=no_trunc) for record in records]
    if quiet:
        yield from (row["ID"] for row in rows)
    elif form == "json":
        yield from (json.dumps(row, ensure_ascii=False) for row in rows)
    elif form == "table":
        yield from _table([tuple(head for head, _ in _COLUMNS), *(tuple(row[key] for _, key in _COLUMNS) for row in rows)])
    elif "{{" in form:
        from imgbuild.cli.templates import listed

        yield from listed(form, rows, _HEADS)
    else:
        raise UsageError(f"unknown format {form!r}", hint="formats are: table, json, or a template such as '{{.ID}} {{.Names}}'")


def fields(record: ContainerRecord, *, now: float, whole: bool) -> dict[str, str]:
    """What can be shown of one container, under docker's names."""
    command = " ".join(record.process.argv)
    if not whole and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return {
        "ID": record.id if whole else record.short_id,
        "Image": record.image,
        "Command": json.dumps(command, ensure_ascii=False),
        "CreatedAt": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%S +0000 UTC}",
        "RunningFor": f"{_ago(now - record.created)} ago",
        "State": record.state,
        "Status": _status(record, now),
        "Names": record.name,
        "Labels": ",".join(f"{key}={value}" for key, value in record.labels),
        "Mounts": ",".join(mount.source or mount.target for mount in record.mounts),
        "Networks": record.network,
    }


def _status(record: ContainerRecord, now: float) -> str:
    if record.state == "created":
        return "Created"
    if record.state == "running":
        return f"Up {_ago(now - record.started)}"
    return f"Exited ({record.exit_code}) {_ago(now - record.finished)} ago"


def _ago(seconds: float) -> str:
    if seconds < 1:
        return "Less than a second"
    for limit, unit, length in _STEPS:
        if seconds < limit:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{int(seconds // (30 * 86400))} months"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _test(key: str, value: str, word: str) -> Callable[[ContainerRecord], bool]:
    if key == "id":
        return lambda record: record.id.startswith(value)
    if key == "name":
        return lambda record: value.lstrip("/") in record.name
    if key == "status":
        return lambda record: record.state == value
    if key == "ancestor":
        return lambda record: value in (record.image, record.image.partition(":")[0], record.image_digest)
    if key == "exited":
        return lambda record: record.state == "exited" and str(record.exit_code) == value
    if key == "label":
        name, equals, wanted = value.partition("=")
        return lambda record: any(label == name and (not equals or text == wanted) for label, text in record.labels)
    raise UsageError(f"unknown filter {word!r}", hint="filters are: id, name, label, status, ancestor, exited")
