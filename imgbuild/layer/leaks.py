"""Finds secrets in what becomes a layer, while it is made: their bytes as they are, as base64, as hex, and URL-encoded.

What is looked for are strings: the secret without the end of its line, parts of files (passwords in URLs, and what of several lines is
surely no everyday text), and encodings. Certificates and public keys are no secrets. Base64 has three forms of one, by where in a group of
three bytes it begins. What is encoded are two pieces, of which no tool's line breaks can part both. Each string is looked for in each piece
of the tar as a whole, and across the pieces' borders.
"""

from __future__ import annotations

from binascii import b2a_base64

from imgbuild.errors import LeakError
from imgbuild.hints import Callable, Collection, Iterable, Iterator, Mapping
from imgbuild.layer.tar import BLOCK, Stream, read_tar
from imgbuild.light import re, threading
from imgbuild.light.collections import Counter
from imgbuild.linux.search import Haystack
from imgbuild.values import dataclass, field

SHORTEST = 8
"""Bytes: what is shorter would be found in many a layer that has nothing to hide."""
_PLAIN = 4
"""So many different bytes a secret has at least: tars themselves are full of zeros."""
_LONGEST = 1 << 16
"""Of what is longer, that much is looked for."""
_LONGEST_WORD = 4096
"""What is longer is URL-encoded by nobody."""
_PIECE = 48
"""So many bytes of a secret, in two halves, are looked for as base64: fewer than any tool writes in a line."""
_HEX_PIECE = 30
_LEAST_HALF = 12
_MOST = 64
"""So many times a string is found in one layer before it is enough."""
_MOST_PARTS = 64
"""Of a file, so many words are looked for, and so many passwords."""
_MOST_BYTES = 1 << 20
_NAMED = 5
_MAGIC, _MAGIC_AT = b"ustar\0", 257
_NAME, _PREFIX = slice(100), slice(345, 500)

_PUBLIC = rb"-----BEGIN [A-Z0-9 ]*(?:CERTIFICATE(?: REQUEST)?|PUBLIC KEY|CRL|PARAMETERS)-----"
_PRIVATE = rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?-----END [A-Z0-9 ]*-----"
_PASSWORD = rb"://[^\s/:@]*:([^\s/@]+)@"
_WORD = rb"[A-Za-z0-9+/_~.-]{16,}={0,2}"
_LEAST_RUN, _LEAST_GROUP, _LEAST_GROUPS = 12, 4, 3
"""A word is random where letters and digits are mixed in one run of so many, or, as in a license's key, in so many groups of so many."""
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_COMPONENT = _UNRESERVED | frozenset(b"!'()*")

_FORMS = {"raw": "", "part": " (a part of it)", "base64": " (as base64)", "hex": " (as hex)", "url": " (URL-encoded)"}


@dataclass(frozen=True, slots=True)
class Sign:
    """A string that tells of a secret, in the form "raw", "part", "base64", "hex" or "url"."""

    data: bytes = field(repr=False)
    secret: str
    form: str

    @property
    def how(self) -> str:
        """The form in words that follow others."""
        return _FORMS[self.form]


def signs(secret: str, data: bytes) -> tuple[Sign, ...]:
    """The strings that tell of the secret with this id; none where it is too short."""
    whole = _secret_part(_without_end(data))
    if _is_weak(whole):
        return ()
    found = {whole[:_LONGEST]: "raw"}
    tokens = _tokens(whole)
    passwords = [match[1] for match in re.compile(_PASSWORD).finditer(whole[:_MOST_BYTES]) if not _is_weak(match[1])]
    for part in (*(_two(tokens) if b"-----BEGIN" in whole else tokens[:_MOST_PARTS]), *passwords[:_MOST_PARTS]):
        found.setdefault(part, "part")
    pieces, short = _pieces(whole, tokens)
    for piece in pieces:
        for encoded in _base64(piece):
            found.setdefault(encoded, "base64")
            found.setdefault(encoded.translate(bytes.maketrans(b"+/", b"-_")), "base64")
    for piece in short:
        found.setdefault(piece.hex().encode(), "hex")
        found.setdefault(piece.hex().upper().encode(), "hex")
    for kept in (_UNRESERVED, _COMPONENT) if len(whole) <= _LONGEST_WORD else ():
        encoded = b"".join(bytes((byte,)) if byte in kept else b"%%%02X" % byte for byte in whole)
        for spelled in (encoded, encoded.replace(b"%20", b"+"), _lower(encoded)):
            found.setdefault(spelled, "url")
    return tuple(Sign(data, secret, form) for data, form in found.items())


def _without_end(data: bytes) -> bytes:
    return data.strip(b"\r\n")


def _is_weak(text: bytes) -> bool:
    """Whether it would be found where nobody left it."""
    return len(text) < SHORTEST or len(set(text)) < _PLAIN


def _secret_part(whole: bytes) -> bytes:
    """Without what nobody hides: of certificates and public keys, the private ones that stand among them."""
    if re.compile(_PUBLIC).search(whole) is None:
        return whole
    return b"\n".join(match[0] for match in re.compile(_PRIVATE, re.DOTALL).finditer(whole))


def _has_both(word: bytes) -> bool:
    """Whether there are letters and digits in it."""
    return any(48 <= byte < 58 for byte in word) and any(chr(byte).isalpha() for byte in word)


def _two(tokens: list[bytes]) -> list[bytes]:
    """Who leaves a key leaves all of its lines."""
    return [tokens[len(tokens) // 2], tokens[-1]] if tokens else []


def _lower(encoded: bytes) -> bytes:
    """URL-encoded bytes with their hex digits in lower case."""
    first, *rest = encoded.split(b"%")
    return b"%".join((first, *(part[:2].lower() + part[2:] for part in rest)))


def _tokens(whole: bytes) -> list[bytes]:
    """The random words in a text that is more than one (in JSON, too, where lines may end otherwise); but not those of the first line of a
    PEM block, which all keys of a kind begin with."""
    found: list[bytes] = []
    first = False
    for line in whole[:_MOST_BYTES].replace(b"\\n", b"\n").split(b"\n"):
        if b"-----" in line:
            first = True
            continue
        if not first:
            words = (match[0].strip(b".") for match in re.compile(_WORD).finditer(line))
            found += (word[:_LONGEST] for word in words if _is_random(word))
        first = False
    return found if found != [whole[:_LONGEST]] else []


def _is_random(word: bytes) -> bool:
    """Whether no name or path is written like it."""
    mixed = [run for run in re.split(rb"[-_./]", word) if _has_both(run)]
    numbers = 2 if b"." in word else 1  # names of classes and packages have one
    long = (run for run in mixed if len(run) >= _LEAST_RUN)
    if any(len(re.compile(rb"[0-9]+").findall(run)) >= numbers for run in long):
        return True
    return sum(len(run) >= _LEAST_GROUP for run in mixed) >= _LEAST_GROUPS


def _pieces(whole: bytes, tokens: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """What is encoded as base64, and what as hex."""
    core = whole
    if len(whole) > _PIECE:
        middle = len(whole) // 2 - _PIECE // 2
        core = (tokens[len(tokens) // 2] if tokens else whole[middle:])[:_PIECE]
    part = core is not whole
    return _halves(core, part), _halves(core[:_HEX_PIECE], part)


def _halves(piece: bytes, part: bool) -> list[bytes]:
    """A piece in two; what is no part of more as one, where half of it would be an everyday word, such as ``https://www.``."""
    middle = len(piece) // 2
    halves = [piece[:middle], piece[middle:]]
    return halves if middle >= _LEAST_HALF and (part or all(map(_is_varied, halves))) else [piece]


def _is_varied(text: bytes) -> bool:
    """Whether there are two of capitals, small letters, digits and bytes that are no text in it."""
    kinds = (rb"[A-Z]", rb"[a-z]", rb"[0-9]", rb"[^\t-~]")
    return sum(re.compile(kind).search(text) is not None for kind in kinds) >= 2


def _base64(piece: bytes) -> Iterator[bytes]:
    """What of the piece's base64 is the same whatever stands before and behind it, for each way to begin."""
    for skipped in range(3):
        rest = piece[skipped:]
        yield b2a_base64(rest[: len(rest) // 3 * 3], newline=False)


class Leaks:
    """What a build looks for: the bytes of its secrets, by their ids. `allowed` are the ids of those that may be found."""

    def __init__(self, secrets: Mapping[str, bytes], allowed: Iterable[str] = ()) -> None:
        self._secrets = secrets
        self._allowed = frozenset(allowed)
        self._signs: tuple[Sign, ...] | None = None
        self._lock = threading.Lock()

    def signs(self) -> tuple[Sign, ...]:
        """All strings that tell of a secret."""
        with self._lock:
            if self._signs is None:
                every = (sign for name in sorted(self._secrets) for sign in signs(name, self._secrets[name]))
                self._signs = tuple({sign.data: sign for sign in every}.values())
            return self._signs

    @property
    def weak(self) -> tuple[str, ...]:
        """The ids of secrets that can't be looked for: too short, or of too few different bytes."""
        return tuple(name for name in sorted(self._secrets) if _is_weak(_without_end(self._secrets[name])))

    def search(self) -> Search | None:
        """A search through one layer; None where there is nothing to look for."""
        return Search(self.signs(), self._allowed) if self.signs() else None

    def forbids(self, found: Iterable[str]) -> bool:
        """Whether a layer in which these secrets were found is not allowed now."""
        return any(name in self._secrets and name not in self._allowed for name in found)

    def sign_in(self, data: bytes) -> Sign | None:
        """What is in a text that should not be there."""
        return next((sign for sign in self.signs() if sign.secret not in self._allowed and sign.data in data), None)

    def hidden(self, text: str) -> str:
        """A text without what tells of secrets."""
        return hidden(text.encode("utf-8", "surrogateescape"), self.signs())


class Search:
    """A search through one layer. It is shown all of the tar, in pieces in their order."""

    def __init__(self, signs: tuple[Sign, ...], allowed: Collection[str]) -> None:
        self._signs = signs
        self._allowed = allowed
        self._slashed = tuple(sign for sign in signs if b"/" in sign.data)
        self._border = max(BLOCK, *(len(sign.data) for sign in signs)) - 1
        self._headers = 0
        self._tail = b""
        self._position = 0
        self._hits: list[tuple[int, Sign]] = []
        self._counts: Counter[Sign] = Counter()

    def look(self, data: bytes) -> None:
        """Look at the next piece."""
        tail, begin = self._tail, self._position - len(self._tail)
        border, whole = tail + data[: self._border], Haystack(data)
        for sign in self._signs:
            size = len(sign.data)
            if tail:  # what begins in the last piece and ends in this one
                start = max(0, len(tail) - size + 1)
                self._note(sign, Haystack(border[start : len(tail) + size - 1]), begin + start)
            self._note(sign, whole, self._position)
        if self._slashed:
            self._look_at_names(tail + data, begin)
        self._position += len(data)
        self._tail = (tail + data if len(data) < self._border else data)[-self._border :]

    def _look_at_names(self, data: bytes, begin: int) -> None:
        """Look at names that headers have in two parts, without the slash between them (POSIX.1-1988, the prefix)."""
        whole, at = Haystack(data), _MAGIC_AT - 1
        while (at := whole.find(_MAGIC, at + 1)) >= 0:
            start = at - _MAGIC_AT
            if (begin + start) % BLOCK or begin + start < self._headers or start + _PREFIX.stop > len(data):
                continue
            self._headers = begin + start + BLOCK
            header = data[start : start + BLOCK]
            if prefix := header[_PREFIX].rstrip(b"\0"):
                name = prefix + b"/" + header[_NAME].rstrip(b"\0")
                self._hits += ((begin + start, sign) for sign in self._slashed if sign.data in name)

    def _note(self, sign: Sign, data: Haystack, begin: int) -> None:
        start = 0
        while (at := data.find(sign.data, start)) >= 0 and self._counts[sign] < _MOST:
            self._counts[sign] += 1
            self._hits.append((begin + at, sign))
            start = at + 1

    def judge(self, opened: Callable[[], Stream]) -> tuple[str, ...]:
        """The ids of secrets that were found and may be there; LeakError where there are others. `opened` gives what was looked at again,
        for the names of files."""
        if not self._hits:
            return ()
        ids = {sign.secret for _, sign in self._hits}
        forbidden = sorted((hit for hit in self._hits if hit[1].secret not in self._allowed), key=lambda hit: hit[0])
        if forbidden:
            raise self._error(list(dict.fromkeys(self._told(opened(), forbidden))))
        return tuple(sorted(ids))

    def _error(self, told: list[tuple[str, str]]) -> LeakError:
        (text, secret), *others = told
        notes = [other for other, _ in others[:_NAMED]]
        if len(others) > _NAMED:
            notes.append(f"and {len(others) - _NAMED} more")
        return LeakError(
            f"the step's layer would hold a secret: {text}",
            hint="use it where it is mounted, or write it to a mount (type=tmpfs); "
            f"if it is meant, or only a common word: --allow secret.leak={secret}",
            notes=tuple(notes),
        )

    def _told(self, stream: Stream, hits: list[tuple[int, Sign]]) -> Iterator[tuple[str, str]]:
        """In words which file has what, and the secret's id; a file's name only as far as it has no secret."""
        at, seen = 0, set()
        for entry, reader in read_tar(stream):
            content = reader.offset or 0
            while at < len(hits) and hits[at][0] < content + reader.size:
                position, sign = hits[at]
                at += 1
                if (entry.name, sign.secret) not in seen:
                    seen.add((entry.name, sign.secret))
                    where = "it" if position >= content else "its name, target or attributes"
                    yield f"{hidden(entry.name, self._signs)!r} has the secret {sign.secret!r} in {where}{sign.how}", sign.secret
            if at == len(hits):
                return


def hidden(text: bytes, signs: Iterable[Sign]) -> str:
    """A text with *** in the place of the strings."""
    for sign in signs:
        text = text.replace(sign.data, b"***")
    return text.decode("utf-8", "surrogateescape")
