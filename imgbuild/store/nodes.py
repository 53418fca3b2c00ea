"""What a step read, in a form that takes little room: one value a directory, found by its digest, so that trees share what they have in
common, and two of them are compared from the top without looking at what is equal.

A digest is cut to half its length here: it tells what differs, and decides nothing.
"""

from __future__ import annotations

import struct

from imgbuild.errors import CorruptError
from imgbuild.hints import Iterator, Literal, NamedTuple, Sequence
from imgbuild.values import dataclass

SHORT = 16
"""Bytes that are left of a digest."""

_WORDS = 5
_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_HEAD = struct.Struct("<IIIIB")
_PREFIX = len("sha256:")


class Entry(NamedTuple):
    """One entry of a directory. `owner` and `xattrs` are "" where they do not count; `body` is a short digest (hex) of a file's bytes or a
    directory's node, else a symlink's target or a device's number."""

    kind: str
    owner: str
    xattrs: str
    body: str
    size: int


@dataclass(frozen=True, slots=True)
class Node:
    """A directory. `names` are joined by NUL. `kinds` are the different words of kind and mode, owner and attributes; `which` tells each
    entry's, and is empty where there is one for all. `sizes` and `bodies` have one item an entry; `targets` those bodies that are words."""

    names: bytes
    kinds: bytes
    which: bytes
    sizes: bytes
    bodies: bytes
    targets: bytes

    def __len__(self) -> int:
        return len(self.bodies) // SHORT

    def words(self) -> list[str]:
        """The entries' names."""
        return _text(self.names).split("\0") if self.bodies else []

    def entries(self) -> list[Entry]:
        """What the entries are."""
        kinds = [kind.split("\0") for kind in _text(self.kinds).split("\n")]
        targets = iter(_text(self.targets).split("\0"))
        digests, found = self.bodies.hex(), []
        for at, (number, size) in enumerate(zip(self.kind_of_each(), _numbers(self.sizes, len(self)), strict=True)):
            kind, owner, xattrs = kinds[number]
            body = digests[at * 2 * SHORT : (at + 1) * 2 * SHORT] if kind.startswith(_DIGESTED) else next(targets)
            found.append(Entry(kind, owner, xattrs, body, size))
        return found

    def entry(self, index: int) -> Entry:
        """What one entry is, of those that have a digest."""
        kinds = _text(self.kinds).split("\n")
        kind, owner, xattrs = kinds[self.kind_of_each()[index]].split("\0")
        return Entry(kind, owner, xattrs, self.bodies[index * SHORT : (index + 1) * SHORT].hex(), _numbers(self.sizes, len(self))[index])

    def below(self) -> Iterator[str]:
        """The short digests of the directories in it."""
        kinds = _text(self.kinds).split("\n")
        if any(kind.startswith("directory") for kind in kinds):
            for index, number in enumerate(self.kind_of_each()):
                if kinds[number].startswith("directory"):
                    yield self.bodies[index * SHORT : (index + 1) * SHORT].hex()

    def same_kinds(self, other: Node) -> bool:
        """Whether all entries have the same names, kinds, modes, owners and attributes."""
        return (self.names, self.kinds, self.which, self.targets) == (other.names, other.kinds, other.which, other.targets)

    def kind_of_each(self) -> Sequence[int]:
        """Which of the kinds each entry has."""
        return _numbers(self.which, len(self)) if self.which else [0] * len(self)


_DIGESTED = ("file", "directory")


def short(digest: str) -> str:
    """A digest, with or without its algorithm, as nodes call each other."""
    return digest.rpartition(":")[2][: 2 * SHORT]


def node_of(text: str, sizes: Sequence[int]) -> Node:
    """The node of a text: five words for each entry, each ended by NUL: name, kind and mode, owner, extended attributes, body."""
    words = text.split("\0")
    bodies = words[4:-1:_WORDS]
    found: dict[tuple[str, str, str], int] = {}
    every = [found.setdefault(kind, len(found)) for kind in zip(words[1:-1:_WORDS], words[2:-1:_WORDS], words[3:-1:_WORDS], strict=True)]
    kinds = ["\0".join(kind) for kind in found]
    files = [number for number, kind in enumerate(kinds) if kind.startswith("file")]
    if len(files) == len(kinds):  # as nearly all are
        targets, digests = "", [body[_PREFIX : _PREFIX + 2 * SHORT] for body in bodies]
    else:
        digested = [number for number, kind in enumerate(kinds) if kind.startswith(_DIGESTED)]
        targets = "\0".join([body for body, number in zip(bodies, every, strict=True) if number not in digested])
        digests = [short(body) if number in digested else "0" * 2 * SHORT for body, number in zip(bodies, every, strict=True)]
        sizes = [size if number in files else 0 for size, number in zip(sizes, every, strict=True)]
    return Node(
        names=_bytes("\0".join(words[0:-1:_WORDS])),
        kinds=_bytes("\n".join(kinds)),
        which=_packed(every) if len(kinds) > 1 else b"",
        sizes=_packed(sizes),
        bodies=bytes.fromhex("".join(digests)),
        targets=_bytes(targets),
    )


def pack(node: Node) -> bytes:
    """The node as it is kept."""
    parts = (node.names, node.kinds, node.which, node.targets)
    width = len(node.sizes) // len(node) if len(node) else 0
    return b"".join((_HEAD.pack(*map(len, parts), width), *parts, node.sizes, node.bodies))


def unpack(data: bytes) -> Node:
    """The inverse of `pack`; CorruptError where it is none."""
    try:
        *lengths, width = _HEAD.unpack_from(data)
        at, parts = _HEAD.size, []
        for length in lengths:
            parts.append(data[at : at + length])
            at += length
        count, rest = divmod(len(data) - at, SHORT + width)
        names, kinds, which, targets = parts
        node = Node(names, kinds, which, data[at : at + width * count], data[at + width * count :], targets)
        if rest or not _is_whole(node):
            raise ValueError
    except (struct.error, ValueError):
        raise CorruptError("a record of what a step read is damaged") from None
    return node


def _is_whole(node: Node) -> bool:
    """Whether every entry has its name, kind, size and body."""
    if not (count := len(node)):
        return not node.which
    kinds = node.kinds.split(b"\n")
    every = node.kind_of_each()
    if len(every) != count or max(every) >= len(kinds) or any(kind.count(b"\0") != 2 for kind in kinds):
        return False
    digested = [kind.startswith((b"file", b"directory")) for kind in kinds]
    words = sum(not digested[number] for number in every) if not all(digested) else 0
    return len(_numbers(node.sizes, count)) == count == node.names.count(b"\0") + 1 and words <= node.targets.count(b"\0") + 1


def _packed(numbers: Sequence[int]) -> bytes:
    """Numbers in the least width that all of them fit into; little-endian on all machines that this runs on."""
    most = max(numbers, default=0)
    code = next(code for code, bits in (("B", 8), ("H", 16), ("I", 32), ("Q", 64)) if most < 1 << bits)
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def _numbers(data: bytes, count: int) -> Sequence[int]:
    width = len(data) // count if count else 1
    code = _CODES.get(width)
    if code is None or len(data) % width:
        raise CorruptError("a record of what a step read is damaged")
    return memoryview(data).cast(code)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
