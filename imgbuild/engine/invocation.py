"""How imgbuild was called, and where that says that things are. Light: it is loaded by every command, also by one that is over at once."""

from __future__ import annotations

import os

from imgbuild.hints import TYPE_CHECKING
from imgbuild.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SYSTEM_ROOT = "/var/lib/imgbuild"
SYSTEM_CONFIG = "/etc/imgbuild/imgbuild.yaml"


@dataclass(frozen=True, slots=True)
class Invocation:
    """How imgbuild was called: the environment, and the options before the command."""

    environ: Mapping[str, str] = field(repr=False)
    root: str | None = None
    config: str | None = None
    debug: bool = False
    ends: bool = False
    """That the process ends with the command, by `os._exit`: what the kernel then closes need not be closed."""

    def store_root(self, uid: int) -> Path:
        """$IMGBUILD_ROOT, else the usual state directory of root, else the XDG data home."""
        from imgbuild.light.pathlib import Path

        return Path(self.store_place(uid))

    def store_place(self, uid: int) -> str:
        """The same, as a string."""
        chosen = self.root or self.environ.get("IMGBUILD_ROOT")
        if chosen:
            return os.path.abspath(chosen)
        if uid == 0:
            return SYSTEM_ROOT
        data = self.environ.get("XDG_DATA_HOME") or os.path.join(self.home(), ".local/share")
        return os.path.join(data, "imgbuild")

    def home(self) -> str:
        """The user's home directory."""
        return self.environ.get("HOME") or os.path.expanduser("~")

    def config_path(self, uid: int) -> Path | None:
        """The settings file, if one was named or the usual one exists."""
        from imgbuild.light.pathlib import Path

        named, *usual = self.config_places()
        return Path(named) if named else next((Path(path) for path in usual if os.path.isfile(path)), None)

    def config_places(self) -> tuple[str, ...]:
        """Where the settings file is: the one that was named, or "", and then the usual places, of which the first that exists counts."""
        chosen = self.config or self.environ.get("IMGBUILD_CONFIG")
        if chosen:
            return (chosen,)
        config = self.environ.get("XDG_CONFIG_HOME") or os.path.join(self.home(), ".config")
        return ("", os.path.join(config, "imgbuild", "imgbuild.yaml"), SYSTEM_CONFIG)

    def disabled(self) -> frozenset[str]:
        """The fast paths that $IMGBUILD_DISABLE switches off."""
        return frozenset(filter(None, self.environ.get("IMGBUILD_DISABLE", "").split(",")))
