"""--chmod: an octal mode, or chmod(1)'s symbolic one, as a change of a file's mode."""

from __future__ import annotations

from imgbuild.errors import BuildfileError
from imgbuild.hints import Callable
from imgbuild.patterns import pattern

ModeChange = Callable[[int, bool], int]
"""(permission bits, whether it is a directory) -> new permission bits."""

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_DIGITS = pattern(r"[0-9]+")
_OCTAL_DIGITS = pattern(r"[0-7]+")
_CLAUSE = pattern(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_OPERATION = pattern(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)")
_EVERY_BIT = 0o7777


def parse_mode(text: str) -> ModeChange:
    """Read the value of --chmod; BuildfileError where it is none. Octal replaces all bits, set-id and sticky ones too."""
    if _DIGITS.fullmatch(text):
        if not _OCTAL_DIGITS.fullmatch(text) or int(text, 8) > _EVERY_BIT:
            raise BuildfileError(f"bad mode {text!r} for --chmod: an octal mode is between 0 and 7777")
        octal = int(text, 8)
        return lambda mode, is_directory: octal
    operations: list[tuple[int, str, str]] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise BuildfileError(f"bad mode {text!r} for --chmod", hint="such as 755, or u=rwX,go=rX")
        who = match[1].replace("a", "ugo") or "ugo"
        mask = 0
        for letter in who:
            mask |= _WHO[letter]
        operations += [(mask, sign, bits) for sign, bits in _OPERATION.findall(match[2])]
    return lambda mode, is_directory: _applied(operations, mode, is_directory)


def _applied(operations: list[tuple[int, str, str]], mode: int, is_directory: bool) -> int:
    for mask, sign, letters in operations:
        bits = _bits(letters, mode, is_directory) & mask
        if sign == "+":
            mode |= bits
        elif sign == "-":
            mode &= ~bits
        else:
            mode = (mode & ~mask) | bits
    return mode & _EVERY_BIT


def _bits(letters: str, mode: int, is_directory: bool) -> int:
    if letters in ("u", "g", "o"):
        return (mode >> {"u": 6, "g": 3, "o": 0}[letters] & 7) * 0o111
    bits = 0
    for letter in letters:
        if letter == "X":
            bits |= 0o111 if is_directory or mode & 0o111 else 0
        else:
            bits |= _BITS[letter]
    return bits
