"""Records of builds as text for people, and as JSON for programs."""

from __future__ import annotations

import time
from typing import Any

from imgbuild.cli.progress import human_size
from imgbuild.cli.tables import duration, plain, shortened, shortened_path, table
from imgbuild.hints import Iterator
from imgbuild.insight.beside import Comparison
from imgbuild.insight.builds import BuildRecord, Problem, StepRecord, Usage, untold
from imgbuild.insight.timing import Timing, timing

_SHORT = 8


def build_row(build: BuildRecord) -> list[str]:
    """A line of the list."""
    steps = f"{build.cached}/{build.count} cached" if build.count else "none"
    return [build.id, build.status, _title(build), steps, _age(build.started), _took(build)]


def summary_json(build: BuildRecord) -> dict[str, Any]:
    """A build in a list: all but its steps."""
    return {**{name: value for name, value in build.raw.items() if name != "count"}, "seconds": build.seconds, "steps": build.count}


def full_json(build: BuildRecord) -> dict[str, Any]:
    """All that is known of a build, and what follows from it."""
    return {**build.raw, "seconds": build.seconds, "timing": _timing_json(timing(build.steps))}


def build_text(build: BuildRecord) -> str:
    """A build in full."""
    facts = [(name, value) for name, value in _facts(build) if value]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name + ':':<{width + 1}} {plain(value)}" for name, value in facts]
    for warning in build.warnings:
        lines.append(plain(f"warning: {warning.get('file')}:{warning.get('line')} {warning.get('rule')}: {warning.get('message')}"))
    lines += [plain(f"notice: {notice}") for notice in build.notices]
    if build.error is not None:
        lines += _problem(build.error)
    if build.steps:
        heads = ["STEP", "INSTRUCTION", "OUTCOME", "TIME", "CPU", "PEAK", "READ", "WRITTEN", "NETWORK", "LAYER", "STORED", "CAPTURE"]
        lines += ["", table(heads, [_step_row(step, build) for step in build.steps])]
    return "\n".join(lines)


def comparison_json(one: BuildRecord, two: BuildRecord, found: Comparison) -> dict[str, Any]:
    """What differs, as an object."""
    changes = [{"name": change.name, "first": change.first, "second": change.second} for change in found.changes]
    steps = [
        {
            "what": pair.what,
            "first": None if pair.first is None else _number(one, pair.first),
            "second": None if pair.second is None else _number(two, pair.second),
        }
        for pair in found.steps
    ]
    builds = [{"id": build.id, "status": build.status, "seconds": build.seconds} for build in (one, two)]
    return {"builds": builds, "changes": changes, "steps": steps}


def comparison_text(one: BuildRecord, two: BuildRecord, found: Comparison) -> str:
    """What differs, for a person: facts, then the steps with both outcomes."""
    lines = [f"A: {one.id} {one.status}, {_took(one)}", f"B: {two.id} {two.status}, {_took(two)}"]
    for change in found.changes:
        lines.append(plain(f"{change.name}: {change.first or '(none)'} -> {change.second or '(none)'}"))
    words = {"same": "", "key": "key", "text": "text", "added": "only in B", "removed": "only in A"}
    rows = []
    for pair in found.steps:
        step = pair.second or pair.first
        assert step is not None
        changed = words[pair.what] if pair.what != "text" or pair.first is None else f"was: {shortened(pair.first.text)}"
        rows.append([shortened(step.name), *_outcomes(pair.first, pair.second), *_peaks(pair.first, pair.second), changed])
    heads = ["INSTRUCTION", "A", "B", "PEAK A", "PEAK B", "CHANGED"]
    return "\n".join([*lines, "", table(heads, rows)])


def _facts(build: BuildRecord) -> Iterator[tuple[str, str]]:
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(build.started))
    yield "Build", build.id
    yield "Status", build.status
    yield "Target", " ".join(filter(None, (build.target, f"({build.bake_target} of the bake {build.bake})" if build.bake else "")))
    yield "Buildfile", build.buildfile
    yield "Context", build.context
    yield "Platforms", ", ".join(build.platforms)
    yield "Names", ", ".join(build.names)
    yield "Image", build.image
    yield "Digest", build.digest
    yield "Bases", ", ".join(f"{base.get('name', '')} {base.get('digest', '')[:19]}" for base in build.bases)
    yield "Args", ", ".join(f"{name}={value}" for name, value in build.args.items())
    yield "Options", ", ".join(f"{name.replace('_', '-')} {_option(value)}" for name, value in build.options.items())
    yield "Secrets", ", ".join(build.secrets)
    yield "Started", f"{when} ({_age(build.started)})"
    told = f"{build.count} steps, {build.cached} cached, {build.performed} performed"
    yield "Took", f"{_took(build)}: {told if not (why := untold(build)) else f'its steps are not known: {why}'}"
    yield "The same as", build.same
    if build.steps:
        yield from _timing_facts(timing(build.steps))
    yield "Version", build.version


def _timing_facts(found: Timing) -> Iterator[tuple[str, str]]:
    path = " -> ".join(f"#{step.number}" for step in found.path)
    yield "Critical path", f"{path}, {found.path_seconds:.2f} s"
    yield "Parallelism", f"{found.parallelism:.2f} steps at once on average, {found.most} at most"
    yield "Waited", f"{found.waited:.2f} s for memory" if found.waited else ""


def _timing_json(found: Timing) -> dict[str, Any]:
    return {
        "critical_path": [step.number for step in found.path], "critical_path_seconds": found.path_seconds, "work_seconds": found.work,
        "parallelism": found.parallelism, "most_at_once": found.most, "waited_seconds": found.waited,
    }  # fmt: skip


def _step_row(step: StepRecord, build: BuildRecord) -> list[str]:
    outcome = f"{step.outcome} ({step.build[:_SHORT]})" if step.outcome == "cached" and step.build not in ("", build.id) else step.outcome
    usage, layer = step.usage or Usage(), step.layer
    events = [f"{usage.oom_kills} killed for memory"] if usage.oom_kills else []
    events += [f"throttled {usage.throttled} times, {usage.throttled_seconds or 0.0:.2f} s"] if usage.throttled else []
    network = [usage.network_received, usage.network_sent]
    known = [each for each in network if each is not None]
    return [
        step.label,
        shortened(step.name),
        ", ".join([outcome, *events]),
        _lasted(step.outcome, step.seconds),
        _seconds(usage),
        _size(usage.peak_memory),
        _size(usage.bytes_read),
        _size(usage.bytes_written),
        human_size(sum(known)) if known else "unknown" if step.usage is not None else "",
        "" if layer is None else f"{layer.entries} in {human_size(layer.uncompressed)}",
        "" if layer is None else human_size(layer.size),
        "" if step.capture is None else f"{step.capture:.2f} s",
    ]


def _seconds(usage: Usage) -> str:
    if usage.cpu_user is not None and usage.cpu_system is not None:
        return f"{usage.cpu_user:.2f} + {usage.cpu_system:.2f} s"
    return "" if usage.cpu_seconds is None else f"{usage.cpu_seconds:.2f} s"


def _size(number: int | None) -> str:
    return "" if number is None else human_size(number)


def _number(build: BuildRecord, step: StepRecord) -> dict[str, Any]:
    return next((dict(raw) for raw in build.raw["steps"] if raw.get("number") == step.number), {})


def _outcomes(*steps: StepRecord | None) -> list[str]:
    return ["" if step is None else f"{step.outcome} {step.seconds:.2f} s" for step in steps]


def _peaks(*steps: StepRecord | None) -> list[str]:
    return ["" if step is None or step.usage is None else _size(step.usage.peak_memory) for step in steps]


def _problem(problem: Problem) -> list[str]:
    place = f"{problem.file}:{problem.line}: " if problem.file else ""
    lines = [f"error: {place}{problem.message}", *(f"  | {line}" for line in problem.detail.splitlines())]
    lines += [f"  note: {line}" for line in problem.notes.splitlines()]
    lines += [f"  hint: {problem.hint}"] if problem.hint else []
    return [plain(line) for line in lines]


def _title(build: BuildRecord) -> str:
    """What a build is known by: its names, else its target or its Buildfile."""
    target = build.bake_target or build.target
    name = shortened(", ".join(build.names)) or shortened_path(build.buildfile)
    return f"{shortened(target)}: {name}" if target else name


def _option(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def _took(build: BuildRecord) -> str:
    if build.status == "running":
        return f"{max(0.0, time.time() - build.started):.2f} s so far"
    return _lasted(build.status, build.seconds)


def _lasted(outcome: str, seconds: float) -> str:
    """How long it took; of what was killed, only until it was last heard of."""
    return f"{'at least ' if outcome == 'interrupted' else ''}{seconds:.2f} s"


def _age(started: float) -> str:
    return f"{duration(max(0, int(time.time() - started)))} ago"
