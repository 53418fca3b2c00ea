"""What each key of the settings means (they are listed in the room's charter)."""

from __future__ import annotations

from typing import Any

import yaml

from imgbuild.buildfile.quantities import parse_count, parse_cpus, parse_duration, parse_size
from imgbuild.errors import ImageError, SettingsError
from imgbuild.graph.ops import Limits
from imgbuild.layer.compression import DEFAULT_LEVELS, Compression
from imgbuild.light.functools import partial
from imgbuild.oci.reference import parse_reference
from imgbuild.registry.endpoints import RegistryRule, RegistrySettings, pull_endpoints
from imgbuild.settings import Settings
from imgbuild.settings.nodes import Document
from imgbuild.values import replace

_BUILD_FILE = frozenset({"targets", "groups", "variables", "target", "group", "variable", "services"})
"""What the other file with the name imgbuild.yaml has."""


def read_settings(document: Document, root: yaml.Node) -> Settings:
    """The settings that the file's outermost mapping says."""
    for key, key_node, _ in document.entries(root, "the settings"):
        if key in _BUILD_FILE:
            document.fail(key_node, f"{key!r} belongs to a build file, and this is the settings file", "give it to `imgbuild bake -f`")
    kinds = document.quantity(_compression)
    values: dict[str, Any] = document.fields(
        root,
        "the settings",
        {
            "registries": partial(_rules, document),
            "network": partial(_network, document),
            "compression": kinds,
            "compression-level": lambda node: (node, document.quantity(parse_count)(node)),
            "parallelism": document.quantity(_positive),
            "limits": partial(_limits, document),
            "build-timeout": document.quantity(_seconds),
            "cache": partial(_cache, document),
            "history": partial(_history, document),
            "silence": document.quantity(_seconds),
            "memory": document.quantity(parse_size),
        },
    )
    registries = values.get("network")
    if "registries" in values:
        registries = replace(registries or RegistrySettings(), rules=values["registries"])
    compression = values.get("compression")
    if "compression-level" in values:
        node, level = values["compression-level"]
        compression = document.quantity(lambda _: replace(compression or Compression(), level=level))(node)
    return Settings(
        registries=registries,
        compression=compression,
        parallelism=values.get("parallelism"),
        limits=values.get("limits"),
        build_timeout=values.get("build-timeout"),
        **values.get("cache", {}),
        **values.get("history", {}),
        **{key: values[key] for key in ("silence", "memory") if key in values},
    )


def _rules(document: Document, node: yaml.Node) -> tuple[RegistryRule, ...]:
    rules = []
    for name, key_node, value_node in document.entries(node, "registries"):
        if not _is_registry(name):
            document.fail(key_node, f"{name!r} is not a registry's name", "write it as in references: docker.io, registry.internal:5000")
        rules.append(_rule(document, name, value_node))
    return tuple(rules)


def _rule(document: Document, name: str, node: yaml.Node) -> RegistryRule:
    values: dict[str, Any] = document.fields(
        node,
        f"the registry {name}",
        {
            "mirrors": document.texts,
            "plain-http": document.boolean,
            "insecure": document.boolean,
            "ca": document.path,
        },
    )
    rule = RegistryRule(
        registry=name,
        mirrors=values.get("mirrors", ()),
        plain_http=values.get("plain-http"),
        verify_tls=not values.get("insecure", False),
        ca_file=values.get("ca"),
    )
    try:
        pull_endpoints(RegistrySettings((rule,)), name)
    except (SettingsError, ValueError) as error:
        mirrors = next(value for key, _, value in document.entries(node, name) if key == "mirrors")
        document.fail(mirrors, str(error), getattr(error, "hint", None))
    return rule


def _network(document: Document, node: yaml.Node) -> RegistrySettings:
    seconds = document.quantity(_seconds)
    values: dict[str, Any] = document.fields(
        node,
        "network",
        {
            "ca": document.path,
            "attempts": document.quantity(_positive),
            "connect-timeout": seconds,
            "read-timeout": seconds,
            "longest-wait": seconds,
            "parallel": document.quantity(_positive),
            "chunk-size": document.quantity(parse_size),
        },
    )
    names = {"ca": "ca_file", "chunk-size": "chunk_bytes"}
    return RegistrySettings(**{names.get(key, key.replace("-", "_")): value for key, value in values.items()})


def _limits(document: Document, node: yaml.Node) -> Limits:
    size, seconds = document.quantity(parse_size), document.quantity(_seconds)
    values: dict[str, Any] = document.fields(
        node,
        "limits",
        {
            "memory": size,
            "memory-swap": document.quantity(lambda text: -1 if text in ("unlimited", "-1") else parse_size(text)),
            "cpus": document.quantity(lambda text: parse_cpus(text) / 10**9),
            "pids": document.quantity(_positive),
            "timeout": seconds,
            "idle-timeout": seconds,
            "retry": document.quantity(parse_count),
        },
    )
    return Limits(**{key.replace("-", "_"): value for key, value in values.items()})


def _cache(document: Document, node: yaml.Node) -> dict[str, Any]:
    seconds, count, size = (document.quantity(parse) for parse in (_seconds, parse_count, parse_size))
    keys = {"unused": seconds, "failed": seconds, "failed-steps": count, "failed-size": size}
    values: dict[str, Any] = document.fields(node, "cache", keys)
    return {f"keep_{key.replace('-', '_')}": value for key, value in values.items()}


def _history(document: Document, node: yaml.Node) -> dict[str, float | int]:
    size = document.quantity(parse_size)
    readers = {"age": document.quantity(_seconds), "size": size, "log": size}
    values: dict[str, Any] = document.fields(node, "history", readers)
    return {f"history_{key}": value for key, value in values.items()}


def _compression(text: str) -> Compression:
    for kind in DEFAULT_LEVELS:
        if kind == text:
            return Compression(kind)
    raise SettingsError(f"unknown compression {text!r}", hint=f"it is one of: {', '.join(DEFAULT_LEVELS)}")


def _is_registry(name: str) -> bool:
    try:
        return parse_reference(f"{name}/repository").registry == name
    except ImageError:
        return False


def _positive(text: str) -> int:
    count = parse_count(text)
    if not count:
        raise SettingsError("a number above 0 is expected here")
    return count


def _seconds(text: str) -> float:
    seconds = parse_duration(text) / 10**9
    if seconds <= 0:
        raise SettingsError("a time above 0 is expected here", hint="write it as 90s, 1m30s or 1.5h")
    return seconds
