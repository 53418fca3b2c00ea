"""Where a command works: its store, its settings, what the kernel allows, and the zygote that its sandboxes come from.

Not being root, the process enters a user namespace first, which it can do only while it has one thread. The zygote is forked when it is
first needed, and before there are threads: a build in which everything is cached needs none. One that will surely need it may start it
before it loads the rest (`early_zygote`).
"""

from __future__ import annotations

import os

from imgbuild.engine.invocation import Invocation
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Mapping
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.linux.features import Features, probe
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.sandbox.zygote import Zygote
    from imgbuild.settings import Settings
    from imgbuild.store.failed import Keep
    from imgbuild.store.store import Store

_MARK = "sandboxes"
"""A temporary directory of the store that tells, by being left there, that a process died that may have left control groups."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a command works with. `uid` is the user's own, outside any user namespace."""

    invocation: Invocation
    uid: int
    features: Features
    store: Store
    settings: Settings
    start_zygote: Callable[[], Zygote]
    notice: str = ""
    """What the user should know of the rights that there are."""

    @property
    def environ(self) -> Mapping[str, str]:
        return self.invocation.environ

    @property
    def zygote(self) -> Zygote:
        """Where sandboxes come from; started at the first use, which must be before there are threads."""
        return self.start_zygote()


class Early:
    """A zygote that was started before it was known whether there is anything for it to do, to do its part beside finding that out."""

    def __init__(self, features: Features, zygote: Zygote) -> None:
        self.features = features
        self.zygote = zygote


@contextmanager
def early_zygote(invocation: Invocation) -> Iterator[Early | None]:
    """Start the zygote before the rest of this program is even loaded: it is a small process then, and has its first sandbox ready when
    that is asked for. None where the rights for that come later, without root, or never."""
    if os.geteuid() != 0:
        yield None
        return
    from imgbuild.errors import SandboxError
    from imgbuild.sandbox.zygote import Zygote

    features = probe(invocation.disabled())
    try:
        started = Zygote.start(features)
    except SandboxError:  # the build says so, if it comes to need one
        yield None
        return
    with started as zygote:
        zygote.foresee()
        yield Early(features, zygote)


@contextmanager
def workplace(
    invocation: Invocation,
    *,
    sandboxes: bool = False,
    snapshots: bool = True,
    begin: Callable[[Zygote], object] | None = None,
    early: Early | None = None,
) -> Iterator[Workplace]:
    """Open the store and what goes with it. `sandboxes`: processes will be run; `snapshots`: files of other owners than the
    user's will be read, written or removed (without either, a user namespace is not needed). With `begin`, which is told of it,
    the zygote is started before all else, to do its part beside that; `early` is one that was before."""
    from imgbuild.settings import Settings

    uid, notice = os.geteuid(), ""
    with ExitStack() as stack:
        disabled = invocation.disabled()
        features = early.features if early is not None else probe(disabled)
        root = invocation.store_root(uid)
        config = invocation.config_path(uid)
        if uid != 0 and (sandboxes or snapshots):
            from imgbuild.linux import userns

            notice = userns.enter(invocation.environ.get("PATH", "/usr/bin:/bin")).notice
            features = probe(disabled)
        zygotes = stack.enter_context(ExitStack())
        started = [early.zygote] if early is not None else []

        def start() -> Zygote:
            from imgbuild.sandbox.zygote import Zygote

            started.append(zygotes.enter_context(Zygote.start(features)))
            return started[0]

        def mark() -> None:
            stack.enter_context(store.temporary(_MARK))
            stack.push(lambda kind, *_: started[0].close() if kind is not None else started[0].retire())

        def start_zygote() -> Zygote:
            if not started:
                start()
                mark()
            return started[0]

        if begin is not None:
            begin(start())
        from imgbuild.store.store import Store

        if config is not None:
            from imgbuild.settings.load import load_settings

            settings = load_settings(config)
        else:
            settings = Settings()
        store = stack.enter_context(Store.open(root, leave=invocation.ends and sandboxes))
        if any(name.startswith(_MARK) for name in store.left_by_the_dead):
            sweep_groups()
        if started:
            mark()
        yield Workplace(invocation, uid, features, store, settings, start_zygote, notice)


def sweep_groups() -> None:
    """Remove the control groups of processes that died. Those whose last process was still on its way out when the mark was found are left
    for the next to do so."""
    from imgbuild.sandbox import cgroup

    cgroup.sweep(cgroup.here())


def keep_failed(settings: Settings) -> Keep:
    """How many failed steps are kept, and for how long."""
    from imgbuild.store.failed import Keep

    return Keep(settings.keep_failed_steps, settings.keep_failed, settings.keep_failed_size)
