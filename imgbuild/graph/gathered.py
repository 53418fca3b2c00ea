"""What a config has many of, gathered instruction by instruction and put into it once: a file of ENV lines is read in linear time."""

from __future__ import annotations

from imgbuild.light.functools import cached_property
from imgbuild.oci.config import RunConfig
from imgbuild.values import replace


class Gathered:
    """Additions to a config, each made from what `start` has when the first one comes: what nothing is added to stays as it is."""

    def __init__(self, start: RunConfig) -> None:
        self._start = start

    @cached_property
    def env(self) -> dict[str, str]:
        return {name: value for name, _, value in (entry.partition("=") for entry in self._start.env)}

    @cached_property
    def labels(self) -> dict[str, str]:
        return dict(self._start.labels)

    @cached_property
    def ports(self) -> set[str]:
        return set(self._start.exposed_ports)

    @cached_property
    def volumes(self) -> set[str]:
        return set(self._start.volumes)

    @cached_property
    def triggers(self) -> list[str]:
        return list(self._start.on_build)

    def into(self, config: RunConfig) -> RunConfig:
        """`config` with what was gathered."""
        touched = self.__dict__
        return replace(
            config,
            env=tuple(f"{name}={value}" for name, value in self.env.items()) if "env" in touched else config.env,
            labels=tuple(sorted(self.labels.items())) if "labels" in touched else config.labels,
            exposed_ports=tuple(sorted(self.ports)) if "ports" in touched else config.exposed_ports,
            volumes=tuple(sorted(self.volumes)) if "volumes" in touched else config.volumes,
            on_build=tuple(self.triggers) if "triggers" in touched else config.on_build,
        )
