"""What this machine uses to get packages: its apt sources, pip's settings, certificates and proxies.

All of it is read here and handed on by name (files of a base image, secrets, build args); nothing of it reaches a build by itself.
"""

from __future__ import annotations

import ast
import configparser
import io
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

APT = Path("/etc/apt")
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_SUITE_SUFFIXES = ("", "-updates", "-security")
_SUITE_ALIASES = {"stable", "oldstable", "testing", "unstable", "sid"}
_KEPT_APT_OPTIONS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class MachineError(Exception):
    """This machine lacks what the demo needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """This machine's distribution: its id ("debian"), the codename of its release, and its name for people."""

    id: str
    codename: str
    name: str


@dataclass(frozen=True, slots=True)
class AptSources:
    """The distribution's own sources as deb822, the keyrings that they name, and the options that they need."""

    text: str
    keyrings: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PipSettings:
    """A pip.conf for a build, and the certificates to believe there; either may be empty."""

    configuration: str = field(repr=False)
    certificates: bytes = field(repr=False)


def distribution() -> Distribution:
    """Read os-release."""
    fields = platform.freedesktop_os_release()
    codename = fields.get("VERSION_CODENAME", "")
    if not codename:
        raise MachineError(f"{fields.get('PRETTY_NAME', 'this distribution')} has no codename: it is not a Debian or Ubuntu release")
    return Distribution(fields["ID"], codename, fields.get("PRETTY_NAME", codename))


def apt_sources(codename: str, directory: Path = APT) -> AptSources:
    """The sources of `codename` itself, its updates and its security archive; third parties' are left out."""
    stanzas = [kept for stanza in _stanzas(directory) if (kept := _own(stanza, codename))]
    if not any(not {codename, *_SUITE_ALIASES}.isdisjoint(stanza["suites"].split()) for stanza in stanzas):
        raise MachineError(f"{directory} names no source of {codename}: there is nothing to make a base of")
    keyrings = {signed for stanza in stanzas if (signed := stanza.get("signed-by", "")).startswith("/")}
    return AptSources("\n".join(map(_written, stanzas)), tuple(sorted(keyrings)), _apt_options())


def _stanzas(directory: Path) -> Iterator[dict[str, str]]:
    """All enabled binary sources, both forms read as deb822 fields with lower-case names."""
    files = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix == ".sources" and file.is_file():
            yield from _deb822(file.read_text(encoding="utf-8"))
        elif file.suffix == ".list" and file.is_file():
            yield from _one_line(file.read_text(encoding="utf-8"))


def _deb822(text: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines)):
        stanza: dict[str, str] = {}
        name = ""
        for line in filter(str.strip, paragraph.splitlines()):
            if line[0] in " \t":
                stanza[name] += "\n" + line
            else:
                name, _, value = line.partition(":")
                name = name.lower()
                stanza[name] = value.strip()
        if stanza and stanza.get("enabled", "yes").lower() not in ("no", "false", "0"):
            yield stanza


def _one_line(text: str) -> Iterator[dict[str, str]]:
    for line in text.splitlines():
        match = re.fullmatch(r"\s*deb\s+(?:\[(?P<options>[^]]*)]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>[^#]*)(?:#.*)?", line)
        if match is None:
            continue
        stanza = {"types": "deb", "uris": match["uri"], "suites": match["suite"], "components": match["components"].strip()}
        for option in shlex.split(match["options"] or ""):
            name, _, value = option.partition("=")
            stanza[{"arch": "architectures", "lang": "languages"}.get(name, name)] = value.replace(",", " ")
        yield stanza


def _own(stanza: Mapping[str, str], codename: str) -> dict[str, str] | None:
    """The stanza without what is not this release's, or None if nothing is left."""
    families = {codename, *_SUITE_ALIASES}
    allowed = {family + suffix for family in families for suffix in _SUITE_SUFFIXES}
    suites = [suite for suite in stanza.get("suites", "").split() if suite.replace("/updates", "-security") in allowed]
    uris = [real for uri in stanza.get("uris", "").split() if (real := _reachable(uri))]
    signed = stanza.get("signed-by", "")
    foreign = signed.startswith("/") and not re.search(r"/(?:debian|ubuntu)-archive-[^/]*$", signed)
    if "deb" not in stanza.get("types", "").split() or "main" not in stanza.get("components", "").split():
        return None
    if foreign or not suites or not uris:
        return None
    return {**stanza, "types": "deb", "uris": " ".join(uris), "suites": " ".join(suites)}


def _reachable(uri: str) -> str:
    """`uri` as it can be used inside a sandbox: the first of a list of mirrors; nothing where it is on this machine's disk."""
    if uri.startswith("mirror+file:"):
        listed = Path(urlsplit(uri).path).read_text(encoding="utf-8").split("\n")
        uri = next((line.split()[0] for line in listed if line.strip() and not line.startswith("#")), "")
    return uri if uri.startswith(("http://", "https://")) else ""


def _written(stanza: Mapping[str, str]) -> str:
    kept = ("Types", "URIs", "Suites", "Components", "Architectures", "Signed-By", "Trusted")
    return "".join(f"{name}: {stanza[name.lower()]}\n" for name in kept if name.lower() in stanza)


def _apt_options() -> tuple[str, ...]:
    """What this machine's sources need to be believed: a mirror that stands still has Release files that are too old."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return tuple(line.rstrip(";") for line in dump.splitlines() if line.startswith(_KEPT_APT_OPTIONS) and '"false"' in line)


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies that this machine uses, by the names of the predefined build args."""
    found = {name: value for name in _PROXIES if (value := environ.get(name) or environ.get(name.upper(), ""))}
    dump = subprocess.run(["apt-config", "dump", "Acquire::http::Proxy"], capture_output=True, text=True, check=False).stdout
    match = re.search(r'^Acquire::http::Proxy "(http[^"]+)";', dump, re.MULTILINE)
    if match and "http_proxy" not in found:
        found["http_proxy"] = match[1]
    return found


def pip_settings(environ: Mapping[str, str], certificates_at: str) -> PipSettings:
    """Where pip finds packages on this machine. Directories of this machine are left out: a build does not see them.

    `certificates_at`: the path of the certificates as the build sees them.
    """
    settings = _pip_config(environ)
    kept: dict[str, str] = {"disable-pip-version-check": "true"}
    for name in ("trusted-host", "proxy", "timeout", "default-timeout"):
        if name in settings:
            kept[name.removeprefix("default-")] = settings[name]
    for name in ("index-url", "extra-index-url"):
        urls = [url for url in settings.get(name, "").split() if url.startswith(("http://", "https://"))]
        if urls:
            kept[name] = "\n".join(urls)
    candidates = [settings.get("cert"), *(environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")), str(SYSTEM_CERTIFICATES)]
    bundle = next((path for candidate in candidates if candidate and (path := Path(candidate)).is_file()), None)
    if bundle is not None:
        kept["cert"] = certificates_at
    parser = configparser.RawConfigParser()
    parser["global"] = kept
    text = io.StringIO()
    parser.write(text)
    return PipSettings(text.getvalue(), bundle.read_bytes() if bundle is not None else b"")


def _pip_config(environ: Mapping[str, str]) -> dict[str, str]:
    """What `pip config list` says, as `pip install` would take it: its own section over the global one, the environment over both."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environ)).stdout
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            key, equals, value = line.partition("=")
            if equals and key.startswith(f"{section}."):
                found[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return found


def missing_packages(names: tuple[str, ...]) -> list[str]:
    """Those of these packages that are not installed."""
    command = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def is_root() -> bool:
    """Whether this is root."""
    return os.geteuid() == 0
