"""The secrets of a build, and what of them is in the keys of the steps that they are given to: a digest that only this store can make."""

from __future__ import annotations

from imgbuild.graph.key import SECRET_INPUT
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Mapping
from imgbuild.store.secret_key import keyed_digest
from imgbuild.store.store import Store
from imgbuild.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """The bytes of a secret. Of one that is not `keyed` only the id is in keys: another value is no reason to perform a step again."""

    data: bytes = field(repr=False)
    keyed: bool = True


def secret_inputs(store: Store, secrets: Mapping[str, Secret], op: RunOp) -> dict[str, str]:
    """Of the secrets that a RUN is given, the digests for its key. One that was not given is no input."""
    given = {mount.id: secrets[mount.id] for mount in op.mounts if mount.kind == "secret" and mount.id in secrets}
    return {f"{SECRET_INPUT}{name}": _digest(store, name, secret.data) for name, secret in given.items() if secret.keyed}


def _digest(store: Store, name: str, data: bytes) -> str:
    """The digest of a secret under its id; one of equal bytes under another id has another one."""
    identity = name.encode("utf-8", "surrogateescape")
    return keyed_digest(store.secret_key(), b"imgbuild: a secret of a step\0%d\0%b%b" % (len(identity), identity, data))
