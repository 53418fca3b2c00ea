"""A plan in words: exactly what a sandbox will do, line by line, for ``--debug``."""

from __future__ import annotations

import shlex

from imgbuild.linux.mounts import Bind, File, Filesystem, Mount
from imgbuild.sandbox import capabilities as caps
from imgbuild.sandbox.plan import DEVICE_LINKS, DEVICES, Plan
from imgbuild.sandbox.spec import DEFAULT_RLIMITS, Limits, Process


def describe(plan: Plan) -> tuple[str, ...]:
    """The plan's lines, in the order in which they are performed. Values of environment variables are not shown: they may
    be secrets."""
    namespaces = "mount pid uts ipc cgroup" + (" net" if plan.own_network else "")
    parent = [f"control group below {plan.cgroup_parent}"] if plan.cgroup_parent else []
    lines = [f"namespaces {namespaces}", *parent, *_limits(plan.limits), f"root {_what(plan.root)}"]
    lines += [_mount(mount) for mount in plan.system_mounts]
    how = "bind" if plan.bind_devices else "node"
    lines += [f"device /dev/{name} {how} {major}:{minor}" for name, major, minor in DEVICES]
    others = ", ".join(plan.devices) or "no other devices"
    lines.append("all devices" if plan.all_devices else others)
    lines += [f"link /dev/{name} -> {target}" for name, target in DEVICE_LINKS]
    lines += [_mount(mount) for mount in (*plan.device_mounts, *plan.mounts)]
    lines += [f"sysctl {name}={value}" for name, value in plan.sysctl]
    lines += [f"mask {path}" for path in plan.masked]
    lines += [f"read-only {path}" for path in plan.read_only]
    if plan.read_only_root:
        lines.append("read-only /")
    lines += [f"clocks since boot ahead by {plan.time_offset} s"] if plan.time_offset else []
    lines += [f"wall clock ahead by {plan.ahead} s, traced by {len(plan.clock) // 8} instructions"] if plan.ahead else []
    lines += [f"processors {plan.processors}"] if plan.processors else []
    lines += [f"watch {len(plan.watched)} directories"] if plan.watched else []
    lines += [f"hostname {plan.hostname}", *(("interface lo up",) if plan.own_network else ()), "pivot_root"]
    return (*lines, *_process(plan.process, plan.capabilities, plan.seccomp))


def _process(process: Process, capabilities: int, seccomp: bytes) -> list[str]:
    identity = process.identity
    groups = "".join(f",{group}" for group in identity.groups)
    lines = ["terminal /dev/console"] if process.terminal else []
    lines += [f"rlimit {name} {soft}:{hard}" for name, soft, hard in process.rlimits]
    lines.append("rlimit of others by default: " + " ".join(f"{name} {soft}:{hard}" for name, soft, hard in DEFAULT_RLIMITS))
    lines.append(f"directory {process.cwd}")
    if process.no_new_privileges:
        lines.append("no_new_privs")
    lines.append("capabilities " + (" ".join(sorted(caps.names(capabilities))) or "none"))
    lines.append(f"user {identity.uid}:{identity.gid}{groups}")
    lines.append(f"seccomp {len(seccomp) // 8} instructions" if seccomp else "seccomp none")
    lines.append("environment " + " ".join(sorted(entry.partition("=")[0] for entry in process.env)))
    lines.append("execute " + shlex.join(process.argv))
    return lines


def _limits(limits: Limits) -> list[str]:
    asked = {
        "memory": limits.memory, "memory+swap": limits.memory_swap, "cpus": limits.cpus, "pids": limits.pids, "io weight": limits.io_weight,
        "bytes read a second": limits.io_read_bps, "bytes written a second": limits.io_write_bps,
        "reads a second": limits.io_read_iops, "writes a second": limits.io_write_iops,
    }  # fmt: skip
    return [f"limit {name} {value}" for name, value in asked.items() if value is not None]


def _mount(mount: Mount) -> str:
    flags = {"ro": mount.read_only, "nosuid": mount.nosuid, "nodev": mount.nodev, "noexec": mount.noexec}
    words = ",".join(name for name, on in flags.items() if on)
    part = f" part {mount.subpath}" if mount.subpath else ""
    return f"mount {mount.target} {_what(mount.what)}{part}" + (f" {words}" if words else "")


def _option(key: str, value: str | Filesystem | None) -> str:
    if isinstance(value, Filesystem):
        return f"{key}=[{_what(value)}]"
    return key if value is None else f"{key}={value}"


def _what(what: Filesystem | Bind | File) -> str:
    if isinstance(what, File):
        return f"file of {len(what.data)} bytes, mode {what.mode:04o}, owner {what.uid}:{what.gid}"
    if isinstance(what, Bind):
        return f"{'rbind' if what.recursive else 'bind'} {what.source}"
    options = ",".join(_option(key, value) for key, value in what.options)
    source = "" if what.source in ("none", what.fstype) else f" {what.source}"
    return f"{what.fstype}{source}" + (f" ({options})" if options else "")
