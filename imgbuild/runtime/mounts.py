"""Mounts that a user asks for: what ``-v``, ``--mount`` and ``--tmpfs`` say, as `MountRequest`. Pure: nothing is looked at or made."""

from __future__ import annotations

import os

from imgbuild.errors import UsageError
from imgbuild.light import re
from imgbuild.light.pathlib import PurePosixPath
from imgbuild.runtime.options import MountRequest

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_NUMBER = re.compile(r"\d+", re.ASCII)
_TMPFS_VALUES = {
    "size": re.compile(r"\d+[kmgKMG%]?", re.ASCII),
    "mode": re.compile(r"0?[0-7]{3,4}", re.ASCII),
    "uid": _NUMBER,
    "gid": _NUMBER,
    "nr_inodes": _NUMBER,
    "nr_blocks": _NUMBER,
}
_IGNORED = frozenset({"z", "Z", "cached", "delegated", "consistent", "rw", "private", "rprivate", "bind", "rbind"})
"""Options that change nothing here: SELinux labels, desktop caches, and what is so anyway."""


def parse_volume(text: str, directory: str) -> MountRequest:
    """``-v``: ``[SOURCE:]TARGET[:OPTIONS]``. A source with a slash at its start, or ``.``, is a path, relative ones from
    `directory`; any other is a volume's name."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise UsageError(f"invalid volume {text!r}", hint="it is [SOURCE:]TARGET[:ro]")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    options = parts[2].split(",") if len(parts) == 3 else []
    unknown = [option for option in options if option not in _IGNORED | {"ro", "nocopy"}]
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r} of volume {text!r}", hint="options are: ro, rw, z, Z, nocopy")
    read_only = "ro" in options
    target = _target(target, text)
    if source.startswith(("/", "./", "../")) or source in (".", ".."):
        path = os.path.normpath(os.path.join(directory, source))
        return MountRequest("bind", target, path, read_only, create_source=True)
    return MountRequest("volume", target, _volume_name(source, text), read_only, seed="nocopy" not in options)


def parse_mount(text: str, directory: str) -> MountRequest:
    """``--mount``: ``type=bind|volume|tmpfs,src=...,dst=...[,ro]``; a bind source must exist."""
    fields: dict[str, str] = {}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        key = {"source": "src", "destination": "dst", "target": "dst", "ro": "readonly"}.get(key.strip().lower(), key.strip().lower())
        if key in fields:
            raise UsageError(f"{key!r} stands twice in mount {text!r}")
        fields[key] = value if equals else "true"
    kind = fields.pop("type", "volume")
    source, target = fields.pop("src", ""), _target(fields.pop("dst", ""), text)
    read_only = _flag(fields.pop("readonly", "false"), text)
    if kind == "bind":
        fields.pop("bind-propagation", None)
        fields.pop("consistency", None)
        request = MountRequest("bind", target, os.path.normpath(os.path.join(directory, source)) if source else "", read_only)
        if not source:
            raise UsageError(f"mount {text!r} has no source")
    elif kind == "volume":
        seed = not _flag(fields.pop("volume-nocopy", "false"), text)
        request = MountRequest("volume", target, _volume_name(source, text), read_only, seed=seed)
    elif kind == "tmpfs":
        options = [f"size={fields.pop('tmpfs-size')}"] if "tmpfs-size" in fields else []
        options += [f"mode={fields.pop('tmpfs-mode')}"] if "tmpfs-mode" in fields else []
        request = parse_tmpfs(":".join(filter(None, (target, ",".join([*options, *(["ro"] if read_only else [])])))))
        if source:
            raise UsageError(f"a tmpfs has no source: {text!r}")
    else:
        raise UsageError(f"unknown type {kind!r} of mount {text!r}", hint="types are: bind, volume, tmpfs")
    if fields:
        raise UsageError(f"unknown option {next(iter(fields))!r} of mount {text!r}")
    return request


def parse_tmpfs(text: str) -> MountRequest:
    """``--tmpfs``: ``TARGET[:OPTIONS]`` with size=, mode=, ro, exec, suid, dev; noexec, nosuid and nodev unless said."""
    target, _, words = text.partition(":")
    options: dict[str, str | None] = {"mode": "1777"}
    flags = {"noexec": True, "nosuid": True, "nodev": True, "ro": False}
    for word in filter(None, words.split(",")):
        key, _, value = word.partition("=")
        if key == "rw":
            flags["ro"] = False
        elif word in flags:
            flags[word] = True
        elif word in ("exec", "suid", "dev"):
            flags["no" + word] = False
        elif key in _TMPFS_VALUES and _TMPFS_VALUES[key].fullmatch(value):
            options[key] = value
        else:
            hint = "options are: size=, mode=, uid=, gid=, ro, exec, suid, dev"
            raise UsageError(f"invalid option {word!r} of tmpfs {text!r}", hint=hint)
    return MountRequest(
        "tmpfs",
        _target(target, text),
        read_only=flags["ro"],
        options=tuple(options.items()),
        nosuid=flags["nosuid"],
        nodev=flags["nodev"],
        noexec=flags["noexec"],
    )


def _target(target: str, text: str) -> str:
    if not target.startswith("/") or "\0" in target:
        raise UsageError(f"the target {target!r} of {text!r} is not an absolute path")
    normal = "/" + os.path.normpath(target).lstrip("/")
    if PurePosixPath(normal) == PurePosixPath("/"):
        raise UsageError(f"the target of {text!r} is the root directory")
    return normal


def _volume_name(name: str, text: str) -> str:
    if name and not _NAME.fullmatch(name):
        hint = "a path starts with / or ./; a name has letters, digits, '_', '.', '-', at least two"
        raise UsageError(f"{name!r} in {text!r} is neither a path nor a volume's name", hint=hint)
    return name


def _flag(value: str, text: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"invalid flag value {value!r} in mount {text!r}")
    return value.lower() in ("true", "1")
