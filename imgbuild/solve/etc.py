"""/etc/hosts and /etc/resolv.conf as a step sees them: mounted, so that no layer ever holds the builder's network."""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING, Iterable
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.linux.mounts import Mount


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """What the machine's own /etc/resolv.conf says, and the name that sandboxes have."""

    resolv_conf: bytes = b""
    hostname: str = "imgbuild"


def etc_mounts(host: HostNetwork, more: Iterable[tuple[str, str]] = ()) -> list[Mount]:
    """The two files, read-only; `more` are names and addresses for /etc/hosts."""
    from imgbuild.linux.mounts import File, Mount

    hosts = f"127.0.0.1\tlocalhost {host.hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n".encode()
    hosts += "".join(f"{address}\t{name}\n" for name, address in more).encode()
    return [
        Mount(File(hosts, mode=0o644), "/etc/hosts", read_only=True),
        Mount(File(host.resolv_conf, mode=0o644), "/etc/resolv.conf", read_only=True),
    ]
