"""Spare sandboxes: processes in namespaces of their own, with /proc, /sys and /dev mounted, that wait to be told their root and command.

They are made while nobody waits for the zygote, which is told how many will be wanted (`wire.Expected`). Who asks for a sandbox whose
`Plan.foundation` is another one gets a fresh one. A spare shows the mounts of the host as they were when it was made: when they have
changed since, it is thrown away. So is one that fails before it is ready, and no other is made then. They end with the zygote.
"""

from __future__ import annotations

import os
import select

from imgbuild.hints import Callable, Sequence
from imgbuild.light import signal
from imgbuild.light.collections import deque
from imgbuild.light.contextlib import suppress
from imgbuild.linux import sockets, syscalls
from imgbuild.linux.features import Features
from imgbuild.linux.sockets import Socket
from imgbuild.sandbox import child, wire
from imgbuild.sandbox.group import Group
from imgbuild.sandbox.plan import Plan

_PATIENCE = 2_000
"""How many milliseconds one may take to become ready that was made before it was asked for."""


class Spare:
    """One that waits for its orders; `report` is what it will say of its failure by."""

    def __init__(self, pid: int, pidfd: int, report: int, orders: Socket, group: Group | None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.report = report
        self.orders = orders
        self.group = group

    def is_ready(self) -> bool:
        """Whether it has come so far; waits for that."""
        poll = select.poll()
        poll.register(self.orders, select.POLLIN)
        return bool(poll.poll(_PATIENCE)) and self.orders.recv(1) == child.READY

    def command(self, plan: bytes, joins: tuple[str, ...], fds: Sequence[int], lowers: int) -> bool:
        """Send it off, with a plan as it was packed, and so many `lowers` among the descriptors. False where it is not there any more."""
        with self.orders:
            try:
                wire.send_request(self.orders, wire.Orders(plan, joins, lowers), fds)
            except OSError:
                return False
        return True

    def end(self) -> None:
        """Kill it, and let go of all that it has."""
        with suppress(ProcessLookupError):
            syscalls.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.orders.close()
        os.close(self.pidfd)
        os.close(self.report)
        if self.group is not None:
            self.group.remove()


class Stock:
    """The spares of one zygote, all alike. `make_group` makes the control group that one is born in, where that is of use."""

    def __init__(self, features: Features, make_group: Callable[[], Group | None]) -> None:
        self._features = features
        self._make_group = make_group
        self._plan: Plan | None = None
        self._wanted = 0
        self._width = 0
        self._spares: deque[Spare] = deque()
        self.mounts = -1
        """Says by an exceptional condition that something was mounted or unmounted since it was asked last (proc(5)); -1 at first."""
        self._changed = select.poll()
        self._resting = False

    def expect(self, expected: wire.Expected) -> None:
        """So many more will be asked for."""
        self._plan = expected.plan
        self._wanted += expected.count
        self._width = max(self._width, expected.width)
        self._resting = False
        if self.mounts < 0:
            self.mounts = os.open("/proc/self/mounts", os.O_RDONLY | os.O_CLOEXEC)
            self._changed.register(self.mounts, select.POLLPRI)
            self._changed.poll(0)

    @property
    def expects(self) -> bool:
        """Whether still more will be asked for."""
        return self._wanted > 0

    @property
    def lacking(self) -> bool:
        """Whether one more should be made when there is time."""
        return not self._resting and len(self._spares) < min(self._wanted, self._width)

    def make(self, flags: int) -> None:
        """Make one. Where that fails, none is made any more: what needs a sandbox will say why."""
        assert self._plan is not None
        group = self._make_group()
        report, reporting = os.pipe()
        ours, theirs = sockets.pair(sockets.STREAM)
        try:
            pid, pidfd = self._clone(flags, group)
            if pid == 0:
                child.wait_for_orders(self._plan, self._features, reporting, theirs)
        except OSError:
            os.close(report)
            ours.close()
            if group is not None:
                group.remove()
            self._wanted = 0
            return
        finally:
            os.close(reporting)
            theirs.close()
        self._spares.append(Spare(pid, pidfd, report, ours, group))

    def _clone(self, flags: int, group: Group | None) -> tuple[int, int]:
        if not self._features.clone3:
            return syscalls.clone(flags)
        descriptor = group.descriptor() if group is not None else None
        try:
            return syscalls.clone3(flags, cgroup=descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def take(self, plan: Plan) -> Spare | None:
        """A spare that can become what the plan says, None where there is none; in any case one less is expected."""
        self._wanted = max(0, self._wanted - 1)
        self._resting = False
        if self._spares and self._changed.poll(0):
            self.end()
        if not self._spares or self._plan is None or plan.foundation != self._plan.foundation:
            return None
        spare = self._spares[0]
        if spare.group is not None and (plan.limits or plan.cgroup or plan.cgroup_parent or plan.devices):
            return None
        self._spares.popleft()
        if spare.is_ready():
            return spare
        spare.end()
        self._wanted = 0
        return None

    def rest(self) -> None:
        """The mounts of the host have changed. What was unmounted there is in use for as long as a spare shows it, so they end at once;
        others are made when somebody has asked for one."""
        self.end()
        self._resting = True

    def end(self) -> None:
        """End those that nobody has asked for."""
        while self._spares:
            self._spares.popleft().end()
