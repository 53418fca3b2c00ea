"""Mutations of the golden Buildfiles, and what must hold of each: parsed and printed to the same meaning, or refused at a place."""

from __future__ import annotations

import random
from pathlib import Path

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.expand import expand, expand_heredoc, expand_words, variables
from imgbuild.buildfile.includes import Includes
from imgbuild.buildfile.mounts import parse_mount
from imgbuild.buildfile.parser import parse
from imgbuild.buildfile.print import print_buildfile
from imgbuild.errors import BuildfileError, UnsupportedError

from .meaning import meaning

GOLDEN = [path.read_bytes() for path in sorted((Path(__file__).parent / "golden").iterdir())]
PIECES = [
    b"\\",
    b"\n",
    b"\\\n",
    b"'",
    b'"',
    b"$",
    b"${",
    b"}",
    b"<<E",
    b"E\n",
    b"--",
    b"--x=",
    b"[",
    b'["a"]',
    b"=",
    b"\0",
    b"\xff",
    b"\xc3",
]
PIECES += [
    b"#",
    b"\r\n",
    b"`",
    b"# escape=`\n",
    b"FROM x\n",
    b"RUN ",
    b"ONBUILD ",
    b"\t",
    b",",
    b"type=",
    b"\nINCLUDE x\n",
    b"INCLUDE ",
    b"TEST ",
    b"\xef\xbb\xbf",
    "\u2028é".encode(),
]


def mutated(rng: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(data))
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.choice(PIECES)
            case 1:
                del data[at : at + rng.randint(1, 6)]
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                other = rng.choice(GOLDEN)
                start = rng.randint(0, len(other))
                data[at:at] = other[start : start + rng.randint(1, 40)]
            case _:
                end = rng.randint(0, len(data))
                data[at:at] = data[end : end + 20]
    return bytes(data)


def exercise(buildfile: ast.Buildfile) -> None:
    env = {"A": "x y", "v": ""}
    for stage in buildfile.stages:
        for instruction in stage.instructions:
            for name in instruction.__dataclass_fields__:
                value = getattr(instruction, name)
                for word in value if isinstance(value, tuple) else (value,):
                    if isinstance(word, ast.Word):
                        swallow(word)
                    elif isinstance(word, ast.Heredoc):
                        attempt(expand_heredoc, word.content, env)
            if isinstance(instruction, ast.Run):
                for options in instruction.mounts:
                    attempt(parse_mount, options, instruction.span)


def swallow(word: ast.Word) -> None:
    attempt(expand, word.text, {"A": "x y"}, "\\", word.span)
    attempt(expand_words, word.text, {"A": "x y"}, "\\", word.span)
    variables(word.text)


def attempt(call: object, *arguments: object) -> None:
    try:
        call(*arguments)  # type: ignore[operator]
    except BuildfileError as error:
        assert error.message


def survives(rng: random.Random) -> bool:
    """Whether a mutation was accepted; AssertionError, or any other, is a fault of the parser."""
    text = mutated(rng, rng.choice(GOLDEN))
    try:
        buildfile = parse(text, "B", Includes(lambda path: (path, mutated(rng, rng.choice(GOLDEN)))))
    except BuildfileError as error:
        at = error.at
        assert error.message and "\n" not in error.message, text
        if at is not None:  # only the encoding of the file has no place
            assert 1 <= at.line <= at.end_line <= max(1, len(at.source.lines)), text
            assert at.column <= at.end_column <= len((*at.source.lines, "")[at.line - 1]) + 2, text
        return False
    exercise(buildfile)
    try:
        printed = print_buildfile(buildfile)
    except UnsupportedError as error:  # an included file with an escape character of its own
        assert error.at is not None, text
        assert error.at.source.included is not None, text
        return True
    assert meaning(parse(printed, "printed")) == meaning(buildfile), text
    return True
