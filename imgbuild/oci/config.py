"""The image config (image-spec: config.md) with docker's additions (Healthcheck, OnBuild, Shell), read and written.

What is unknown in a foreign config is not carried into images built on it; the foreign config itself is kept as bytes.
"""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.hints import Any
from imgbuild.oci.digest import DiffID, parse_diff_id
from imgbuild.oci.image import Annotations, document_json, parse_json_object, parse_string_map
from imgbuild.oci.platform import Platform, normalize
from imgbuild.values import dataclass, field

Strings = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How to see that a container works. Times in nanoseconds; 0 means the runtime's default, or inherited."""

    test: Strings
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a container of the image runs, and as whom. `env` holds ``NAME=value`` in order of first definition;
    None for `entrypoint`, `cmd` and `shell` means unset, which is not the same as empty."""

    user: str = ""
    env: Strings = ()
    entrypoint: Strings | None = None
    cmd: Strings | None = None
    working_dir: str = ""
    exposed_ports: Strings = ()
    volumes: Strings = ()
    labels: Annotations = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: Strings = ()
    shell: Strings | None = None
    args_escaped: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """One instruction as it was; `empty_layer` where it made no layer. `created` is RFC 3339, in UTC."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The whole config blob: platform, what to run, the layers' diffIDs lowest first, and the history."""

    platform: Platform
    config: RunConfig = field(default_factory=RunConfig)
    diff_ids: tuple[DiffID, ...] = ()
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""
    os_version: str = ""


def config_bytes(image: ImageConfig) -> bytes:
    """The canonical bytes of an image config; empty fields are left out."""
    return document_json(config_json(image))


def config_json(image: ImageConfig) -> dict[str, Any]:
    """The JSON object of an image config."""
    fields: dict[str, Any] = {
        "architecture": image.platform.architecture,
        "os": image.platform.os,
        "config": run_config_json(image.config),
        "rootfs": {"type": "layers", "diff_ids": list(image.diff_ids)},
    }
    optional = {
        "variant": image.platform.variant,
        "created": image.created,
        "author": image.author,
        "os.version": image.os_version,
        "history": [_history_json(entry) for entry in image.history],
    }
    return fields | {key: value for key, value in optional.items() if value}


def run_config_json(config: RunConfig) -> dict[str, Any]:
    """The JSON object of a run config, in docker's field names."""
    optional: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Env": list(config.env),
        "Volumes": {path: {} for path in config.volumes},
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "OnBuild": list(config.on_build),
        "ArgsEscaped": config.args_escaped,
    }
    fields = {key: value for key, value in optional.items() if value}
    for key, words in (("Entrypoint", config.entrypoint), ("Cmd", config.cmd), ("Shell", config.shell)):
        if words is not None:
            fields[key] = list(words)
    if config.healthcheck is not None:
        fields["Healthcheck"] = _healthcheck_json(config.healthcheck)
    return fields


def parse_config(data: bytes) -> ImageConfig:
    """An image config out of its bytes; ImageError where a field has another type than the specification's."""
    value = parse_json_object(data, "image config")
    rootfs = value.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list):
        if diff_ids is not None or not isinstance(rootfs, dict):
            raise ImageError("the image config has no list of diff_ids")
        diff_ids = []
    history = value.get("history") or []
    if not isinstance(history, list):
        raise ImageError("the history of the image config is not a list")
    return ImageConfig(
        platform=normalize(_text(value, "os"), _text(value, "architecture"), _text(value, "variant")),
        config=_parse_run_config(value.get("config")),
        diff_ids=tuple(parse_diff_id(diff_id) for diff_id in diff_ids),
        history=tuple(_parse_history(entry) for entry in history),
        created=_text(value, "created"),
        author=_text(value, "author"),
        os_version=_text(value, "os.version"),
    )


def _parse_run_config(value: object) -> RunConfig:
    if value is None:
        return RunConfig()
    if not isinstance(value, dict):
        raise ImageError("the config of the image config is not an object")
    return RunConfig(
        user=_text(value, "User"),
        env=_strings(value, "Env") or (),
        entrypoint=_strings(value, "Entrypoint"),
        cmd=_strings(value, "Cmd"),
        working_dir=_text(value, "WorkingDir"),
        exposed_ports=_keys(value, "ExposedPorts"),
        volumes=_keys(value, "Volumes"),
        labels=parse_string_map(value.get("Labels"), "labels of the image config"),
        stop_signal=_text(value, "StopSignal"),
        healthcheck=_parse_healthcheck(value.get("Healthcheck")),
        on_build=_strings(value, "OnBuild") or (),
        shell=_strings(value, "Shell"),
        args_escaped=value.get("ArgsEscaped") is True,
    )


def _parse_healthcheck(value: object) -> Healthcheck | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ImageError("the healthcheck of the image config is not an object")
    return Healthcheck(
        test=_strings(value, "Test") or (),
        interval=_number(value, "Interval"),
        timeout=_number(value, "Timeout"),
        start_period=_number(value, "StartPeriod"),
        start_interval=_number(value, "StartInterval"),
        retries=_number(value, "Retries"),
    )


def _healthcheck_json(check: Healthcheck) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {key: value for key, value in optional.items() if value}


def _parse_history(value: object) -> History:
    if not isinstance(value, dict):
        raise ImageError("an entry of the image config's history is not an object")
    return History(
        created=_text(value, "created"),
        created_by=_text(value, "created_by"),
        comment=_text(value, "comment"),
        author=_text(value, "author"),
        empty_layer=value.get("empty_layer") is True,
    )


def _history_json(entry: History) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "created": entry.created,
        "created_by": entry.created_by,
        "comment": entry.comment,
        "author": entry.author,
        "empty_layer": entry.empty_layer,
    }
    return {key: value for key, value in optional.items() if value}


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ImageError(f"{key!r} in the image config is not a string")
    return text


def _number(value: dict[str, Any], key: str) -> int:
    number = value.get(key) or 0
    if isinstance(number, bool) or not isinstance(number, int):
        raise ImageError(f"{key!r} in the image config is not a whole number")
    return number


def _strings(value: dict[str, Any], key: str) -> Strings | None:
    words = value.get(key)
    if words is None:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ImageError(f"{key!r} in the image config is not a list of strings")
    return tuple(words)


def _keys(value: dict[str, Any], key: str) -> Strings:
    mapping = value.get(key)
    if mapping is None:
        return ()
    if not isinstance(mapping, dict):
        raise ImageError(f"{key!r} in the image config is not an object")
    return tuple(sorted(mapping))
