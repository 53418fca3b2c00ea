"""What templates (`templates`) can do with values, in the words of Go's text/template and of docker. Pure."""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING, Any, Callable
from imgbuild.light import json
from imgbuild.patterns import pattern

if TYPE_CHECKING:
    from re import Match

_VERB = pattern(r"%(-?0?)(\d*)(?:\.(\d+))?([sdvqtf%])")
_MOST_WIDTH = 1000
_BEYOND = 10**300
MOST_TEXT = 1 << 25
"""Characters that are made for one template, in all: a text that is doubled some thirty times is more than a machine has."""


class TemplateError(Exception):
    """A template that can be read can't be filled."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NilList(list[Any]):
    """A list that docker has as nil: it is written as an empty one, and is null in JSON."""


class Names(dict[str, Any]):
    """An object whose keys are a user's: one that is not there has no value, where a field that is not there is an error. Nil as a list."""


def field_of(value: Any, name: str) -> Any:
    """A field of an object."""
    if isinstance(value, dict):
        if name in value:
            return value[name]
        if isinstance(value, Names):
            return None
        raise TemplateError(f"there is no field {name!r}", f"fields are: {', '.join(value)}" if value else None)
    raise TemplateError(f"{written(value)} has no field {name!r}")


def is_true(value: Any) -> bool:
    """Whether a value counts: nothing empty, zero or absent does."""
    return bool(value)


def written(value: Any) -> str:
    """A value as Go writes it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{written(item)}' for key, item in sorted(value.items()))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, NilList) or (isinstance(value, Names) and not value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict) and isinstance(key, str):
            value = value.get(key, "")
        elif isinstance(value, list) and type(key) is int:
            if not 0 <= key < len(value):
                raise TemplateError(f"there is no item {key}: there are {len(value)}")
            value = value[key]
        else:
            raise TemplateError(f"index: {written(value)} has no {written(key)}")
    return value


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if not isinstance(value, list | dict):
        raise TemplateError(f"len: {written(value)} has no length")
    return len(value)


def _join(value: Any, between: Any = "") -> str:
    if not isinstance(value, list):
        raise TemplateError(f"join: {written(value)} is not a list")
    separator = _text("join", between)
    if len(value) * len(separator) > MOST_TEXT:
        raise TemplateError(f"join makes more than {MOST_TEXT:,} characters")
    return separator.join(map(written, value))


def _split(value: Any, between: Any) -> list[str]:
    separator = _text("split", between)
    return _text("split", value).split(separator) if separator else list(_text("split", value))


def _pad(value: Any, before: Any, behind: Any) -> str:
    text = _text("pad", value)
    wide = [_whole("pad", number, _MOST_WIDTH) for number in (before, behind)]
    return f"{' ' * wide[0]}{text}{' ' * wide[1]}" if text else ""


def _truncate(value: Any, length: Any) -> str:
    return _text("truncate", value)[: _whole("truncate", length)]


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, str | list):
        raise TemplateError(f"slice: {written(value)} is no text and no list")
    first, last = [*(_whole("slice", bound, len(value)) for bound in bounds), *(0, len(value))[len(bounds) :]]
    if first > last:
        raise TemplateError(f"slice: {first} is behind {last}")
    return value[first:last]


def _whole(name: str, value: Any, most: int | None = None) -> int:
    if type(value) is not int or value < 0 or (most is not None and value > most):
        raise TemplateError(f"{name}: {written(value)} is no number from 0{'' if most is None else f' to {most}'}")
    return value


def _changed(name: str, change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: change(_text(name, value))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"{name}: {written(value)} is not a text")
    return value


def _formatted(form: Any, *values: Any) -> str:
    left = list(values)

    def one(found: Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not left:
            raise TemplateError(f"printf: no value for {found[0]}")
        value = left.pop(0)
        text = json.dumps(written(value), ensure_ascii=False) if verb == "q" else written(value)
        if verb == "f" and isinstance(value, int | float):
            if abs(value) >= _BEYOND:  # before it is made one: a number of JSON may have any length
                raise TemplateError("printf: a number is too large")
            text = f"{value:.{min(int((precision or '6')[:9]), _MOST_WIDTH)}f}"
        elif precision:
            text = text[: int(precision[:9])]
        wide = min(int(width[:9] or 0), _MOST_WIDTH)
        return text.ljust(wide) if "-" in flags else text.rjust(wide, "0" if "0" in flags else " ")

    text = _VERB.sub(one, _text("printf", form))
    if left:
        raise TemplateError("printf: there are more values than the form has places")
    return text


def _and(*values: Any) -> Any:
    return next((value for value in values if not is_true(value)), values[-1] if values else None)


def _or(*values: Any) -> Any:
    return next((value for value in values if is_true(value)), values[-1] if values else None)


def _compared(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(one: Any, two: Any) -> bool:
        try:
            return compare(one, two)
        except TypeError:
            raise TemplateError(f"{name}: {written(one)} and {written(two)} can't be compared") from None

    return compared


def _checked(name: str, function: Callable[..., Any], least: int, most: int | None) -> Callable[..., Any]:
    """The function, which says so where it is given too few arguments, or too many."""

    def called(*values: Any) -> Any:
        if len(values) < least or (most is not None and len(values) > most):
            raise TemplateError(f"{name} does not take {len(values)} arguments")
        return function(*values)

    return called


_ALL: tuple[tuple[str, Callable[..., Any], int, int | None], ...] = (
    ("json", _json, 1, 1), ("index", _index, 1, None), ("len", _length, 1, 1), ("join", _join, 1, 2), ("split", _split, 2, 2),
    ("pad", _pad, 3, 3), ("truncate", _truncate, 2, 2), ("slice", _slice, 1, 3),
    ("lower", _changed("lower", str.lower), 1, 1), ("upper", _changed("upper", str.upper), 1, 1),
    ("title", _changed("title", str.title), 1, 1), ("printf", _formatted, 1, None),
    ("print", lambda *values: "".join(map(written, values)), 0, None),
    ("println", lambda *values: f"{' '.join(map(written, values))}\n", 0, None),
    ("and", _and, 1, None), ("or", _or, 1, None), ("not", lambda value: not is_true(value), 1, 1),
    ("eq", lambda one, *others: one in others, 2, None), ("ne", lambda one, two: one != two, 2, 2),
    ("lt", _compared("lt", lambda one, two: one < two), 2, 2), ("le", _compared("le", lambda one, two: one <= two), 2, 2),
    ("gt", _compared("gt", lambda one, two: one > two), 2, 2), ("ge", _compared("ge", lambda one, two: one >= two), 2, 2),
)  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {name: _checked(name, function, least, most) for name, function, least, most in _ALL}
