"""``--set PATTERN.KEY[.NAME]=VALUE``: what the command line says of targets after all build files."""

from __future__ import annotations

from fnmatch import fnmatchcase

from imgbuild.bake.keys import KEYS, Kind, Value, canonical
from imgbuild.bake.target import Target
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import UsageError
from imgbuild.hints import Iterable, Mapping
from imgbuild.values import dataclass

_FLAGS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_ADDED = ("annotations", "attest", "entitlements")
"""Lists that are always added to."""
_OUTPUTS = {"push": "type=registry", "load": ""}


@dataclass(frozen=True, slots=True)
class Override:
    """One ``--set``: the targets that its pattern matches, the key, the NAME of a pair, and whether a list is made longer."""

    text: str
    names: frozenset[str]
    key: str
    name: str
    value: str | None
    longer: bool


def parse_override(text: str, targets: Iterable[str], environ: Mapping[str, str]) -> Override:
    """UsageError where it means nothing, or no target."""
    known = tuple(targets)
    left, equals, value = text.partition("=")
    longer = bool(equals) and left.endswith("+")
    pattern, _, rest = left.removesuffix("+" if longer else "").partition(".")
    word, _, name = rest.partition(".")
    key = canonical(word)
    if not pattern or not word:
        raise UsageError(f"--set {text!r} is not understood", hint="write TARGET.KEY=VALUE, or *.args.NAME=VALUE for all targets")
    if key not in KEYS and key not in _OUTPUTS:
        hint = did_you_mean(word, (*KEYS, *_OUTPUTS)) or f"it is one of {', '.join((*KEYS, *_OUTPUTS))}"
        raise UsageError(f"--set {text!r}: {word!r} is no key of a target", hint=hint)
    paired = KEYS.get(key) is Kind.PAIRS
    if paired != bool(name):
        raise UsageError(
            f"--set {text!r}: {key} {'needs a name' if paired else 'has no names'}",
            hint=f"write {pattern}.{key}{'.NAME' if paired else ''}=VALUE",
        )
    if longer and (paired or key in _OUTPUTS or KEYS[key] in (Kind.TEXT, Kind.FLAG)):
        raise UsageError(f"--set {text!r}: only a list can be made longer with +=")
    if not equals and key != "args":
        raise UsageError(f"--set {text!r} has no value", hint=f"write {left}=VALUE")
    names = frozenset([pattern] if pattern in known else (name for name in known if fnmatchcase(name, pattern)))
    if not names:
        raise UsageError(
            f"--set {text!r}: no target is meant by {pattern!r}", hint=did_you_mean(pattern, known) or f"there are {', '.join(known)}"
        )
    return Override(text, names, key, name, value if equals else environ.get(name), longer)


def apply(overrides: Iterable[Override], target: Target) -> Target:
    """The target with what is said of it. Several values for one list in one command are all meant."""
    values = dict(target.values)
    begun: set[str] = set()
    for override in overrides:
        if target.name not in override.names:
            continue
        key = override.key
        if override.value is None:  # an argument of the environment, which has it not
            continue
        if key in _OUTPUTS:
            values["output"] = _outputs(override, values.get("output"))
            continue
        longer = override.longer or key in _ADDED or key in begun
        begun.add(key)
        values[key] = _value(override, override.value, values.get(key), longer)
        if key == "dockerfile":
            values.pop("dockerfile-inline", None)
    return Target(target.name, target.span, target.inherits, values, target.spans, target.home)


def _value(override: Override, text: str, before: Value | None, longer: bool) -> Value:
    kind = KEYS[override.key]
    if kind is Kind.TEXT:
        return text
    if kind is Kind.FLAG:
        return _flag(override, text)
    if kind is Kind.PAIRS:
        return {**(before if isinstance(before, Mapping) else {}), override.name: text}
    kept = before if longer and isinstance(before, tuple) else ()
    return tuple(dict.fromkeys((*kept, text)))


def _flag(override: Override, text: str) -> bool:
    value = _FLAGS.get(text.lower())
    if value is None:
        raise UsageError(f"--set {override.text!r}: {text!r} is neither true nor false")
    return value


def _outputs(override: Override, before: Value | None) -> tuple[str, ...]:
    """The outputs with or without a push; what is loaded is in the store in any case."""
    outputs = before if isinstance(before, tuple) else ()
    added = _OUTPUTS[override.key]
    if _flag(override, override.value or ""):
        return outputs if not added or added in outputs else (*outputs, added)
    return tuple(output for output in outputs if output != added and "push=true" not in output.split(",")) if added else outputs
