"""Why a file is another one under other circumstances, where its bytes don't tell: by runs with one of them alone."""

from __future__ import annotations

from imgbuild.engine.again import Runs
from imgbuild.engine.retrace import Retraced
from imgbuild.errors import ConflictError, SandboxError
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Iterator, Sequence
from imgbuild.insight.reasons import Circumstances
from imgbuild.insight.unlike import Finding, is_unexplained, with_trial, without_guess
from imgbuild.light.contextlib import suppress
from imgbuild.solve.rerun import Conditions, Rerun
from imgbuild.solve.rooms import Rooms
from imgbuild.values import replace


def with_trials(
    runs: Runs, rooms: Rooms, retraced: Retraced, op: RunOp, first: tuple[Rerun, Circumstances], under: Conditions,
    findings: Sequence[Finding], before: Sequence[Finding],
) -> tuple[Finding, ...]:  # fmt: skip
    """The findings between the first run and the one `under` other circumstances, where more can be said. What also differs between two
    runs under the same ones (`before`: the store's layer and the first) is left as it is. As few runs as are needed, one for each
    circumstance at most."""
    stable = {path for each in before for path in (each.path, each.other)}
    open_ = {each.path for each in findings if is_unexplained(each) and each.path not in stable}
    if retraced.layer is None:
        return tuple(findings)
    found: dict[str, str] = {}
    for kind, alone in _alone(under):
        if not open_:
            break
        with suppress(SandboxError, ConflictError), runs.run(rooms, retraced, op, alone) as run:
            made = replace(first[1], began=run.began, ended=run.ended, ahead=alone.ahead)
            differ = {each.path for each in runs.unlike(retraced, (first[0], run), (first[1], made)).findings}
            found |= dict.fromkeys(open_ & differ, kind)
            open_ -= differ

    def judged(finding: Finding) -> Finding:
        if finding.path in found:
            return with_trial(finding, found[finding.path])
        return without_guess(finding) if finding.path in open_ else finding

    return tuple(map(judged, findings))


def _alone(under: Conditions) -> Iterator[tuple[str, Conditions]]:
    """Each circumstance that was another one, alone, with the kind of reason that it is."""
    if under.ahead:
        yield "time", Conditions(ahead=under.ahead)
    if under.memory is not None:
        yield "order", Conditions(memory=under.memory, on_disk=True)
        if not under.on_disk:
            yield "file system", Conditions(memory=under.memory)
    if under.hostname:
        yield "hostname", Conditions(hostname=under.hostname)
    if under.last_pid:
        yield "pid", Conditions(last_pid=under.last_pid)
    if under.time_offset:
        yield "uptime", Conditions(time_offset=under.time_offset)
    if under.processors:
        yield "processors", Conditions(processors=under.processors)
