"""JSON by the C code of the standard module, without the regular expressions that its Python code is made of.

What is wrong, indented, or not as expected is left to `json` itself, with its words.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from json import dumps, loads
    from typing import Any
else:
    from imgbuild.light.contextlib import suppress

    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:
        make_scanner = None

    _SPACE = " \t\n\r"
    _CONSTANTS = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}

    class _Decoder:
        """What the scanner asks of a `json.JSONDecoder`."""

        strict = True
        object_hook = object_pairs_hook = None
        parse_float, parse_int = float, int

        def __init__(self, parse_constant: Callable[[str], Any]) -> None:
            self.parse_constant = parse_constant

    def loads(text: str | bytes, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
        """As `json.loads`."""
        scan = _scan if _scan is None or parse_constant is None else make_scanner(_Decoder(parse_constant))
        words = text
        if isinstance(text, bytes) and not (text.startswith(b"\xef\xbb\xbf") or 0 in text[:4]):
            words = text.decode("utf-8", "surrogatepass")
        end = -1
        if scan is not None and isinstance(words, str):
            stripped = words.strip(_SPACE)
            # The C code has its error from json.decoder, if that is there.
            with suppress(StopIteration, ValueError, SystemError):
                value, end = scan(stripped, 0)
            if end == len(stripped):
                return value
        return _standard().loads(text, parse_constant=parse_constant)

    def dumps(
        value: Any, *, ensure_ascii: bool = True, sort_keys: bool = False,
        separators: tuple[str, str] | None = None, indent: int | str | None = None,
    ) -> str:  # fmt: skip
        """As `json.dumps`."""
        if _scan is None:
            return _standard().dumps(value, ensure_ascii=ensure_ascii, sort_keys=sort_keys, separators=separators, indent=indent)
        between, after = separators or ((", ", ": ") if indent is None else (",", ": "))
        text = encode_basestring_ascii if ensure_ascii else encode_basestring

        def plain(value: Any) -> str:
            return "".join(make_encoder({}, _refuse, text, None, after, between, sort_keys, False, True)(value, 0))

        def indented(value: Any, line: str) -> str:
            if not value or not isinstance(value, dict | list | tuple):
                return plain(value)
            if isinstance(value, dict):
                pairs = sorted(value.items()) if sort_keys else value.items()
                items = [f"{plain({key: 0})[1:-2]}{indented(item, line + unit)}" for key, item in pairs]
            else:
                items = [indented(item, line + unit) for item in value]
            first, last = "{}" if isinstance(value, dict) else "[]"
            return f"{first}{line}{unit}{f'{between}{line}{unit}'.join(items)}{line}{last}"

        unit = " " * indent if isinstance(indent, int) else indent
        return plain(value) if unit is None else indented(value, "\n")

    def _refuse(value: object) -> Any:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    def _standard() -> Any:
        import json

        return json

    def _scanner() -> Any:
        """The scanner, if both it and the encoder are as they were when this was written."""
        try:
            scan = make_scanner(_Decoder(_CONSTANTS.__getitem__))
            made = make_encoder({}, _refuse, encode_basestring, None, ":", ",", True, False, True)
            return scan if make_scanner and scan('{"a": [1]}', 0) == ({"a": [1]}, 10) and "".join(made({"b": 1, "a": "x"}, 0)) else None
        except Exception:  # whatever they have become
            return None

    _scan = _scanner()


__all__ = ["dumps", "loads"]
