"""The `build:` sections of docker compose files as targets: a service is a target, and `default` is the group of all that are built."""

from __future__ import annotations

from imgbuild.bake.keys import KEYS, Base, Value, canonical, merged, read
from imgbuild.bake.nodes import Entry, Node, Reader, Scalar, Table, entries, fail, is_null, unknown
from imgbuild.bake.target import Group, Target, Word, check_name
from imgbuild.bake.variables import Scope
from imgbuild.errors import Span, UnsupportedError
from imgbuild.hints import Callable, Mapping, Sequence
from imgbuild.light import re

_KEYS = {
    "context": "context", "dockerfile": "dockerfile", "dockerfile_inline": "dockerfile-inline", "args": "args", "target": "target",
    "labels": "labels", "tags": "tags", "platforms": "platforms", "additional_contexts": "contexts", "network": "network",
    "shm_size": "shm-size", "ssh": "ssh", "extra_hosts": "extra-hosts", "ulimits": "ulimits", "no_cache": "no-cache", "pull": "pull",
    "cache_from": "cache-from", "cache_to": "cache-to", "entitlements": "entitlements",
}  # fmt: skip
_SPECIAL = ("secrets", "privileged", "isolation", "provenance", "sbom", "x-bake")
_X_BAKE = (
    "tags", "cache-from", "cache-to", "secret", "ssh", "platforms", "output", "pull", "no-cache", "no-cache-filter", "contexts",
    "annotations", "args", "labels",
)  # fmt: skip
_IMAGE = "image"
"""Kept beside a service's values until all files are read: the name of its image, where its build has no tags."""


def scope(given: Mapping[str, str], environ: Mapping[str, str], notice: Callable[[str], None]) -> Scope:
    """What variables of compose files mean: one that is not set is empty, and that is said once."""
    said: set[str] = set()

    def missing(name: str, at: Span) -> str:
        if name not in said:
            said.add(name)
            notice(f"{at}: the variable {name} is not set, and counts as empty")
        return ""

    return Scope(given, environ, missing)


def read_services(files: Sequence[tuple[Node, Base]], variables: Scope, notice: Callable[[str], None]) -> tuple[dict[str, Target], Group]:
    """The targets of compose files, later ones joined to earlier ones, and their group."""
    targets: dict[str, Target] = {}
    images: dict[str, str] = {}
    built: dict[str, None] = {}
    secrets: dict[str, tuple[Entry, Base]] = {}
    span = files[0][0].span
    for root, base in files:
        parts = {entry.key: entry for entry in entries(root, "a compose file")}
        if "secrets" in parts:
            secrets |= {entry.key: (entry, base) for entry in entries(parts["secrets"].value, "secrets")}
    for root, base in files:
        parts = {entry.key: entry for entry in entries(root, "a compose file")}
        span = parts["services"].span if "services" in parts else span
        for entry in entries(parts["services"].value, "services") if "services" in parts else ():
            name = check_name(entry.key.replace(".", "_"), entry.span, "target")
            service = _Service(variables, base, secrets, notice)
            target = service.target(name, entry)
            before = targets.get(name)
            targets[name] = target if before is None else _joined(before, target)
            if service.image is not None:
                images[name] = service.image
            if service.builds:
                built[name] = None
    extended = True
    while extended:
        more = [name for name, target in targets.items() if name not in built and any(word.name in built for word in target.inherits)]
        built |= dict.fromkeys(more)
        extended = bool(more)
    for name, image in images.items():
        targets[name] = _named(targets[name], image)
    return targets, Group("default", span, tuple(Word(name, targets[name].span) for name in targets if name in built))


def _joined(before: Target, later: Target) -> Target:
    both = before.joined(later)
    inherits = (*before.inherits, *later.inherits)
    return Target(both.name, both.span, inherits, both.values, both.spans, before.home)


def _named(target: Target, image: str) -> Target:
    if target.values.get("tags"):
        return target
    return Target(target.name, target.span, target.inherits, {**target.values, "tags": (image,)}, target.spans, target.home)


class _Service:
    """Reads one service of one file."""

    def __init__(self, variables: Scope, base: Base, secrets: Mapping[str, tuple[Entry, Base]], notice: Callable[[str], None]) -> None:
        self._variables = variables
        self._reader = Reader(variables.expand)
        self._base = base
        self._secrets = secrets
        self._notice = notice
        self._values: dict[str, Value] = {}
        self._spans: dict[str, Span] = {}
        self.image: str | None = None
        self.builds = False

    def target(self, name: str, entry: Entry) -> Target:
        inherits: tuple[Word, ...] = ()
        for field in entries(entry.value, f"the service {name}"):
            if is_null(field.value):
                continue
            if field.key == "build":
                self.builds = True
                self._build(name, field)
            elif field.key == _IMAGE:
                self.image = self._reader.text(field.value)
            elif field.key == "extends":
                inherits = (self._extended(field),)
        return Target(name, entry.span, inherits, self._values, self._spans, self._base.directory or ".")

    def _extended(self, field: Entry) -> Word:
        node = field.value
        if isinstance(node, Table):
            parts = {entry.key: entry for entry in node.entries}
            if "file" in parts:
                raise UnsupportedError(
                    "a service of another file can't be extended here", at=parts["file"].span, hint="give both files with -f"
                )
            if "service" not in parts:
                fail(node.span, "extends needs the name of a service")
            node = parts["service"].value
        return Word(self._reader.text(node).replace(".", "_"), node.span)

    def _build(self, name: str, field: Entry) -> None:
        if isinstance(field.value, Scalar):
            self._set("context", self._reader.text(field.value), field.span)
            return
        extension: Entry | None = None
        for entry in entries(field.value, f"build of {name}"):
            if is_null(entry.value):
                continue
            if entry.key in _KEYS:
                self._key(_KEYS[entry.key], entry)
            elif entry.key == "x-bake":
                extension = entry
            elif entry.key in _SPECIAL:
                self._special(entry)
            elif not entry.key.startswith("x-"):
                unknown(entry, f"build of {name}", (*_KEYS, *_SPECIAL))
        if extension is not None:
            self._extension(extension)

    def _key(self, key: str, entry: Entry) -> None:
        if key in ("cache-from", "cache-to"):
            self._notice(f"{entry.span}: {entry.key} is left out: steps are found in the store")
            return
        if (key == "dockerfile-inline" and "dockerfile" in self._values) or (key == "dockerfile" and "dockerfile-inline" in self._values):
            fail(entry.span, "a build has a dockerfile or a dockerfile_inline, not both")
        value = read(self._reader, key, entry.value)
        if key == "contexts" and isinstance(value, Mapping):
            value = {name: _linked(text or "") for name, text in value.items()}
        if key == "args" and isinstance(value, Mapping):  # one without a value has that of a variable, of which .env may tell
            value = {name: self._variables.value(name, entry.span) if text is None else text for name, text in value.items()}
        self._set(key, value, entry.span)

    def _set(self, key: str, value: Value, span: Span) -> None:
        self._values[key] = self._base.within(key, value)
        self._spans[key] = span

    def _special(self, entry: Entry) -> None:
        if entry.key == "secrets":
            if not hasattr(entry.value, "items"):
                fail(entry.value.span, "a list is expected here")
            self._set_plain("secret", tuple(self._secret(node) for node in entry.value.items), entry.span)
        elif entry.key == "privileged":
            if self._reader.flag(entry.value):
                self._set_plain("entitlements", ("security.insecure",), entry.span)
        elif entry.key == "isolation":
            if self._reader.text(entry.value) != "default":
                raise UnsupportedError("only the default isolation is there on Linux", at=entry.value.span)
        elif self._reader.text(entry.value).lower() not in ("false", "0", "no"):
            self._set_plain("attest", (f"type={entry.key}",), entry.span)

    def _set_plain(self, key: str, value: Value, span: Span) -> None:
        self._values[key] = merged(key, self._values.get(key), value)
        self._spans[key] = span

    def _secret(self, node: Node) -> str:
        source, identity = node, ""
        if isinstance(node, Table):
            parts = {entry.key: entry.value for entry in node.entries}
            if "source" not in parts:
                fail(node.span, "a secret needs its source")
            source = parts["source"]
            identity = self._reader.text(parts["target"]) if "target" in parts else ""
        name = self._reader.text(source)
        if name not in self._secrets:
            fail(source.span, f"there is no secret {name!r}", "name it at the end of the file: secrets: {NAME: {file: PATH}}")
        entry, base = self._secrets[name]
        for field in entries(entry.value, f"the secret {name}"):
            if field.key == "file":
                return f"id={identity or name},src={base.path(self._reader.text(field.value))}"
            if field.key == "environment":
                return f"id={identity or name},env={self._reader.text(field.value)}"
        raise UnsupportedError(f"the secret {name} is neither a file nor in the environment", at=entry.span)

    def _extension(self, extension: Entry) -> None:
        for entry in entries(extension.value, "x-bake"):
            key = canonical(entry.key)
            if key not in _X_BAKE:
                unknown(entry, "x-bake", _X_BAKE)
            if is_null(entry.value):
                continue
            if key in ("cache-from", "cache-to"):
                self._key(key, entry)
                continue
            value = self._words(key, entry.value)
            if key == "contexts" and isinstance(value, Mapping):
                value = {name: _linked(text or "") for name, text in value.items()}
            value = self._base.within(key, value)
            before = self._values.get(key)
            if isinstance(before, tuple) and isinstance(value, tuple):
                value = tuple(dict.fromkeys((*before, *value)))
            self._set_plain(key, value, entry.span)

    def _words(self, key: str, node: Node) -> Value:
        """As any key; but one word, or several with spaces between, stand for a list here."""
        if isinstance(node, Scalar) and KEYS[key].name.startswith(("LIST", "LONGER", "RECORDS")):
            return tuple(self._reader.text(node).split())
        return read(self._reader, key, node)


def _linked(text: str) -> str:
    match = re.match(r"(?:service|target):", text)
    return f"target:{text[match.end() :].replace('.', '_')}" if match else text
