"""Failed steps that are kept: which there are, and a command in the state that one left."""

from __future__ import annotations

from imgbuild.engine.again import resolv_conf
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.step_options import opened_agents, read_agents, read_secrets
from imgbuild.engine.workplace import workplace
from imgbuild.hints import Callable
from imgbuild.runtime.outcome import Outcome
from imgbuild.solve.events import Notice
from imgbuild.store.failed import FailedStep, failed_steps, find_failed, held
from imgbuild.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class DebugRequest:
    """Which failed step, and what to run in it: `command`, a shell without one, or (`again`) what the step ran. `term` is what the
    terminal is called, if there is to be one."""

    word: str
    command: tuple[str, ...] = ()
    again: bool = False
    terminal: bool = False
    term: str = ""
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()


def kept_failures(invocation: Invocation) -> tuple[FailedStep, ...]:
    """All failed steps that are kept, the newest first."""
    with workplace(invocation, snapshots=False) as place:
        return failed_steps(place.store.root)


def debug(invocation: Invocation, request: DebugRequest, on_event: Callable[[object], None]) -> Outcome:
    """Run a command, with this process's standard streams, in the state that a failed step left. Nothing of that is changed. Call it from
    the main thread."""
    secrets, agents = read_secrets(request.secrets, invocation.environ), read_agents(request.ssh, invocation.environ)
    with workplace(invocation, sandboxes=True) as place, place.store.lease():
        failed = find_failed(place.store.root, request.word)
        zygote = place.zygote
        from imgbuild.context.local import LocalContext
        from imgbuild.layer.compression import Compression
        from imgbuild.runtime.outcome import outcome_of
        from imgbuild.runtime.signals import SignalPipe
        from imgbuild.runtime.supervise import Streams, Wiring, screen_size, supervise
        from imgbuild.solve.etc import HostNetwork
        from imgbuild.solve.reenter import reentered
        from imgbuild.solve.rooms import Rooms

        with held(failed), LocalContext(failed.directory) as nothing, opened_agents(agents, place.environ) as opened:
            rooms = Rooms(
                store=place.store, zygote=place.start_zygote, features=place.features, context=nothing, compression=Compression(),
                host=HostNetwork(resolv_conf()), secrets=secrets, agents=opened,
            )  # fmt: skip
            with reentered(rooms, failed, request.command, again=request.again) as again:
                for notice in again.notices:
                    on_event(Notice(notice))
                streams, wiring = Streams(), Wiring(request.terminal, interactive=True)
                process = again.spec.process
                if request.terminal:
                    env = (*process.env, f"TERM={request.term or 'xterm'}")
                    process = replace(process, terminal=True, terminal_size=screen_size(streams, wiring), env=env)
                spec = replace(again.spec, process=process)
                with SignalPipe() as signals:
                    status = supervise(lambda *ends: zygote.spawn(spec, *ends), streams, wiring, signals=signals)
                return outcome_of(status, f"the command in the failed step {failed.id}", process.argv[0], None)
