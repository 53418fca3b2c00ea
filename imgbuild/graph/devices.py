"""Lowering of ``RUN --device``: the name of each device, and whether the build may use it."""

from __future__ import annotations

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.expand import expand
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.buildfile.words import split_csv
from imgbuild.errors import BuildfileError, Span
from imgbuild.graph.ops import DeviceOp
from imgbuild.hints import Collection, Mapping

DEVICE = "device"
_KEYS = ("name", "required")
_TRUTH = {word: word in "1tTRUEtrueTrue" for word in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")}


def lower_devices(item: ast.Run, allow: Collection[str], env: Mapping[str, str], escape: str) -> tuple[DeviceOp, ...]:
    """The devices of a RUN; BuildfileError for one that the build was not allowed to use."""
    devices = []
    for flag in item.flags:
        if flag.name != DEVICE:
            continue
        device = _parse(expand(flag.value or "", env, escape, flag.span), flag.span)
        if DEVICE not in allow and f"{DEVICE}={device.name}" not in allow:
            hint = f"if you trust this Buildfile, build with --allow {DEVICE}, or --allow {DEVICE}={device.name}"
            raise BuildfileError(f"the device {device.name} is not allowed", at=flag.span, hint=hint)
        devices.append(device)
    return tuple(devices)


def _parse(text: str, at: Span) -> DeviceOp:
    """``NAME[,required]``; the name of a device may itself have a "=" (VENDOR/CLASS=NAME)."""
    try:
        fields = split_csv(text)
    except BuildfileError as error:
        raise error.located(at) from None
    name, required = "", False
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            if equals and value not in _TRUTH:
                raise BuildfileError(f"'{value}' is not a value for required", at=at, hint="it is true or false")
            required = not equals or _TRUTH[value]
        elif name:
            raise BuildfileError(f"--device has no option '{field}'", at=at, hint=did_you_mean(key, _KEYS) or "write NAME,required")
        else:
            name = value if key == "name" and equals else field
    if not name:
        raise BuildfileError("--device names no device", at=at, hint="write --device=NAME, such as --device=/dev/fuse")
    if name.startswith("/") and (not name.startswith("/dev/") or ".." in name.split("/")):
        raise BuildfileError(f"{name} is no path of a device", at=at, hint="devices are below /dev")
    return DeviceOp(name, required, at)
