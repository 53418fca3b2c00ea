"""Two image configs -> what changed, field by field: variables, labels, ports and volumes one by one. Pure.

When and by what an image was made is no part of it: the history tells.
"""

from __future__ import annotations

from typing import Any

from imgbuild.hints import Iterator
from imgbuild.oci.config import ImageConfig, RunConfig, run_config_json
from imgbuild.values import dataclass

_SINGLE = (
    ("user", "User"), ("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("workdir", "WorkingDir"), ("shell", "Shell"),
    ("stop signal", "StopSignal"), ("healthcheck", "Healthcheck"), ("onbuild", "OnBuild"), ("args escaped", "ArgsEscaped"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One field, or one `key` of a field that has several. None where it is not set."""

    field: str
    key: str
    old: Any
    new: Any


def config_changes(old: ImageConfig, new: ImageConfig) -> tuple[ConfigChange, ...]:
    """What differs, in a fixed order."""
    return tuple(_changes(old, new))


def _changes(old: ImageConfig, new: ImageConfig) -> Iterator[ConfigChange]:
    if old.platform != new.platform:
        yield ConfigChange("platform", "", str(old.platform), str(new.platform))
    if old.author != new.author:
        yield ConfigChange("author", "", old.author or None, new.author or None)
    before, after = run_config_json(old.config), run_config_json(new.config)
    for name, field in _SINGLE:
        if before.get(field) != after.get(field):
            yield ConfigChange(name, "", before.get(field), after.get(field))
    for name, mine, theirs in zip(("env", "label", "port", "volume"), _mappings(old.config), _mappings(new.config), strict=True):
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key):
                yield ConfigChange(name, key, mine.get(key), theirs.get(key))


def _mappings(config: RunConfig) -> tuple[dict[str, str], ...]:
    env = {word.partition("=")[0]: word.partition("=")[2] for word in config.env}
    return env, dict(config.labels), dict.fromkeys(config.exposed_ports, ""), dict.fromkeys(config.volumes, "")
