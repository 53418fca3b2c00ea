"""What a Buildfile says, as values: the parser's result. Nothing here is expanded: variables are still in the words.

Every instruction keeps its `span` (all its lines, heredocs included) and `text`, the logical line as one string
with continuations joined and comments inside it dropped, which is what history shows.
"""

from __future__ import annotations

from imgbuild.errors import Source, Span
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written (quotes and variables still in it) and where it stands."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Heredoc:
    """``<<NAME`` and its text. `expand` is false where the delimiter was quoted; `strip_tabs` for ``<<-`` (the text
    has lost its leading tabs already); `content` ends with a newline unless it is empty; `raw` is as it stands in the file,
    with the terminator (no newline after it), for RUN, where the shell reads the heredoc itself; `fd` is the number
    before ``<<``; `word` is the opening word as written. Bytes that were not UTF-8 are surrogates, as surrogateescape makes them."""

    name: str
    content: str
    raw: str
    expand: bool
    strip_tabs: bool
    fd: int | None
    span: Span
    word: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of RUN, CMD, ENTRYPOINT or HEALTHCHECK: exec form (`words`) or shell form (`line`, as written; "" where
    nothing follows the keyword). `is_script` says that the line is one heredoc and nothing else, which then is the script."""

    words: tuple[str, ...] | None
    line: str | None
    heredocs: tuple[Heredoc, ...] = ()
    is_script: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """``--name=value``; `value` is None for a bare ``--name``."""

    name: str
    value: str | None
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions share. `flags` are in file order, names known and allowed, values unexpanded. `comments` are
    the lines above it without their ``#``; `blank_inside` says that an empty line stands within a continuation; `escape` is
    the escape character of the file that it was read from."""

    span: Span
    text: str
    flags: tuple[Flag, ...] = ()
    comments: tuple[str, ...] = ()
    blank_inside: bool = False
    escape: str = "\\"

    def flag(self, name: str) -> Flag | None:
        """The last flag of that name."""
        return next((flag for flag in reversed(self.flags) if flag.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """`alias` is lower-case; `alias_word` is the same as written."""

    image: Word
    alias: str | None
    alias_word: Word | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """`mounts` are the ``--mount`` flags split at commas (CSV quoting) into key and value (None for a bare key), keys
    lower-case and known for their type; they are typed after expansion, by `buildfile.mounts.parse_mount`."""

    command: Command
    mounts: tuple[tuple[tuple[str, str | None], ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Test(Run):
    """As `Run`, on what the stage is at that point: it must succeed, and leaves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """`sources` are words; those that are heredocs stand in `heredocs` instead, in order, as files of that name."""

    sources: tuple[Word, ...]
    destination: Word
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Copy):
    """As `Copy`, with archives unpacked and URLs fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """`legacy` is the form ``ENV name value``, whose value is the rest of the line."""

    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """`legacy` is the form ``LABEL name value``, whose value is the rest of the line."""

    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """``ARG name`` or ``ARG name=default``, several on a line; None where there is no default."""

    pairs: tuple[tuple[Word, Word | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """What a container runs, or the arguments of its entrypoint."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """What a container always runs."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """The shell of the shell forms that follow."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """The working directory from here on."""

    path: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """The user, and group, from here on."""

    user: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """Ports that a container listens on, with ranges and protocols as written."""

    ports: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """Paths that are volumes."""

    paths: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopsignal(Instruction):
    """The signal that asks a container to stop, as written."""

    signal: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """`command` is None for NONE. The durations are its flags, as written."""

    command: Command | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """`trigger` is the parsed trigger, checked now; `trigger_text` is what goes into the image config."""

    trigger: Instruction
    trigger_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """Who made the image; LABEL took its place."""

    name: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Include(Instruction):
    """The instructions of another file; `path` is relative to the file that it stands in. `parse` leaves none."""

    path: Word


@dataclass(frozen=True, slots=True)
class StageText:
    """One FROM and what follows it, up to the next."""

    origin: From
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Directive:
    """``# name=value`` at the head of the file; names are lower-case."""

    name: str
    value: str
    span: Span


@dataclass(frozen=True, slots=True)
class Buildfile:
    """A parsed Buildfile: directives, the ARGs before the first FROM, and the stages in order."""

    source: Source
    directives: tuple[Directive, ...]
    global_args: tuple[Arg, ...]
    stages: tuple[StageText, ...]
    escape: str = "\\"
