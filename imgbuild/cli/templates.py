"""``--format``: the part of Go's text/template that scripts for docker use. Pure: a text and a value in, a text out.

Read are: fields (``{{.Config.Cmd}}``), ``$`` and variables, literals, calls and pipes with parentheses, ``if``, ``else``, ``with``,
``range`` with one or two variables, comments, and ``{{-``, ``-}}``. The functions are in `template_functions`. A template names only what
it is given: it reads no file, and what it may do is bounded.
"""

from __future__ import annotations

from imgbuild.cli.tables import table
from imgbuild.cli.template_functions import FUNCTIONS, MOST_TEXT, TemplateError, field_of, is_true, written
from imgbuild.errors import UsageError
from imgbuild.hints import Any, Callable, Iterator, Mapping, Sequence
from imgbuild.light import json
from imgbuild.patterns import DOTALL, pattern
from imgbuild.values import dataclass

_ACTION = pattern(r"\{\{(- )?((?:/\*.*?\*/)|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?)( -)?\}\}", DOTALL)
_TOKEN = pattern(r"\s*(\"(?:\\.|[^\"\\])*\"|`[^`]*`|:=|-?\d+(?:\.\d+)?|\$\w*(?:\.\w+)*|(?:\.\w+)+|\.|[A-Za-z]\w*|[(),|])")
_VARIABLE = pattern(r"\$\w+")
_DEEPEST = 50
_LONGEST = 20_000
_MOST_STEPS = 200_000
"""Evaluations of one template: one in which ranges stand in ranges may want more than anybody can wait for."""


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Show:
    pipeline: _Pipeline


@dataclass(frozen=True, slots=True)
class _Block:
    """``if``, ``with`` or ``range``, with what stands in it and behind its ``else``."""

    kind: str
    pipeline: _Pipeline
    names: tuple[str, ...]
    body: tuple[_Node, ...]
    other: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """Commands, each of which gets the value of the one before as its last argument; `name` is given the value, if it is not ""."""

    commands: tuple[tuple[_Operand, ...], ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Operand:
    """`kind` is "value", "path" (`value`: names, the first a variable or "" for the dot), "name" (of a function) or "group"."""

    kind: str
    value: Any


_Node = _Text | _Show | _Block


class Template:
    """A template that was read; UsageError where it can't be."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise _bad(f"a template has no more than {_LONGEST:,} characters")
        self._nodes = _Parser(text).all()

    def fill(self, value: Any) -> str:
        """The text that it makes of a value: objects are dicts, lists are lists. UsageError where a field is not there, or the like."""
        out: list[str] = []
        try:
            _Filling(value, out.append).nodes(self._nodes, value, {"$": value})
        except TemplateError as error:
            raise UsageError(f"--format: {error}", hint=error.hint) from None
        return "".join(out)


def listed(form: str, rows: Sequence[Mapping[str, Any]], heads: Mapping[str, str]) -> Iterator[str]:
    """A line for each row, as a list has it: backslash t and n are what they are called, and after ``table `` the columns, which tabs part,
    line up below their heads."""
    aligned = form.startswith("table ")
    template = Template(form.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n"))
    head = template.fill(heads)  # in any case: what is not there is said also where there are no rows
    lines = [template.fill(row) for row in rows]
    if not aligned:
        yield from lines
        return
    cells = [line.split("\t") for line in (head, *lines)]
    width = max(map(len, cells))
    first, *others = [[*line, *[""] * (width - len(line))] for line in cells]
    yield table(first, others)


def shown(text: str) -> str:
    """The text for a terminal: what would move its cursor is a question mark."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


class _Parser:
    """From a text to nodes."""

    def __init__(self, text: str) -> None:
        self._parts = list(_parts(text))
        self._at = 0
        self._depth = 0

    def all(self) -> tuple[_Node, ...]:
        nodes, word = self._until(())
        if word:
            raise _bad(f"there is nothing for {{{{{word}}}}} to end")
        return nodes

    def _until(self, words: tuple[str, ...]) -> tuple[tuple[_Node, ...], str]:
        """Nodes up to an action that begins with one of `words`: these, and that action; "" at the end."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _bad("blocks stand too deep in each other")
        nodes: list[_Node] = []
        while self._at < len(self._parts):
            is_action, text = self._parts[self._at]
            self._at += 1
            word = text.split(None, 1)[0] if is_action and text.strip() else ""
            if not is_action:
                nodes.append(_Text(text))
            elif word in ("end", "else"):
                if word not in words:
                    raise _bad(f"there is nothing for {{{{{word}}}}} to end")
                self._depth -= 1
                return tuple(nodes), text.strip()
            elif word in ("if", "with", "range"):
                nodes.append(self._block(word, text.strip()[len(word) :]))
            elif not text.lstrip().startswith("/*"):
                nodes.append(_Show(_pipeline(text)))
        if words:
            raise _bad("an {{end}} is missing")
        self._depth -= 1
        return tuple(nodes), ""

    def _block(self, kind: str, text: str) -> _Block:
        names: tuple[str, ...] = ()
        if kind == "range" and ":=" in text:
            left, _, text = text.partition(":=")
            names = tuple(name.strip() for name in left.split(","))
            if len(names) > 2 or not all(_VARIABLE.fullmatch(name) for name in names):
                raise _bad(f"range{left}:= does not name one or two variables, as $key, $value")
        pipeline = _pipeline(text)
        body, ended = self._until(("end", "else"))
        other: tuple[_Node, ...] = ()
        if ended.startswith("else"):
            rest = ended.removeprefix("else").strip()
            if rest.startswith("if ") and kind == "if":
                self._depth += 1
                other = (self._block("if", rest.removeprefix("if")),)  # whose end is that of all
                self._depth -= 1
            elif rest:
                raise _bad(f"{{{{{ended}}}}} is not understood")
            else:
                other, ended = self._until(("end",))
        return _Block(kind, pipeline, names, body, other)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Texts and actions in turn, white space taken away where a dash asks for that."""
    at, trim = 0, False
    while (begins := text.find("{{", at)) >= 0:
        found = _ACTION.match(text, begins)
        if found is None:
            raise _bad("an action does not end with }}")
        before = text[at:begins]
        before = before.lstrip() if trim else before
        yield False, before.rstrip() if found[1] else before
        yield True, found[2]
        at, trim = found.end(), bool(found[3])
    yield False, text[at:].lstrip() if trim else text[at:]


def _pipeline(text: str) -> _Pipeline:
    tokens = list(_tokens(text))
    name = ""
    if len(tokens) > 1 and tokens[1] == ":=":
        name, tokens = tokens[0], tokens[2:]
        if not _VARIABLE.fullmatch(name):
            raise _bad(f"{name!r} is not the name of a variable")
    pipeline, rest = _commands(tokens, 0)
    if rest:
        raise _bad(f"a parenthesis too many: {text.strip()}")
    return _Pipeline(pipeline.commands, name)


def _tokens(text: str) -> Iterator[str]:
    at, text = 0, text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad(f"{text[at:].strip()!r} is not understood")
        yield found[1]
        at = found.end()


def _commands(tokens: Sequence[str], depth: int) -> tuple[_Pipeline, list[str]]:
    """Read up to a parenthesis that closes, or to the end; and what is left."""
    if depth > _DEEPEST:
        raise _bad("parentheses stand too deep in each other")
    commands: list[tuple[_Operand, ...]] = []
    operands: list[_Operand] = []
    left = list(tokens)
    while left:
        token = left.pop(0)
        if token == ")":
            if not depth:
                return _Pipeline((*commands, tuple(operands))), [token]
            break
        if token == "(":
            inner, left = _commands(left, depth + 1)
            operands.append(_Operand("group", inner))
        elif token == "|":
            commands.append(tuple(operands))
            operands = []
        else:
            operands.append(_operand(token))
    else:
        if depth:
            raise _bad("a parenthesis is not closed")
    commands.append(tuple(operands))
    if not all(commands):
        raise _bad("a value is missing")
    return _Pipeline(tuple(commands)), left


def _operand(token: str) -> _Operand:
    if token[0] == "`":
        return _Operand("value", token[1:-1])
    if token[0] == '"':
        try:
            value = json.loads(token.replace("\t", "\\t").replace("\n", "\\n"))  # which may be what `listed` made of them
            value.encode("utf-8", "surrogateescape")
            return _Operand("value", value)
        except ValueError:
            raise _bad(f"{token} is not understood") from None
    if token[0] == "$":
        return _Operand("path", tuple(token.split(".")))
    if token[0] == ".":
        return _Operand("path", ("", *filter(None, token.split("."))))
    if token[0].isdigit() or token[0] == "-":
        return _Operand("value", float(token) if "." in token else int(token[:18]))
    if token in _WORDS:
        return _Operand("value", _WORDS[token])
    if token in FUNCTIONS:
        return _Operand("name", token)
    raise _bad(f"there is no function {token}", f"there are {', '.join(sorted(FUNCTIONS))}")


_WORDS = {"true": True, "false": False, "nil": None}


class _Filling:
    """One use of a template."""

    def __init__(self, value: Any, write: Callable[[str], object]) -> None:
        self._out = write
        self._steps = 0
        self._made = 0

    def nodes(self, nodes: Sequence[_Node], dot: Any, variables: dict[str, Any]) -> None:
        for node in nodes:
            self._count()
            if isinstance(node, _Text):
                self._write(node.text)
            elif isinstance(node, _Show):
                value = self._value(node.pipeline, dot, variables)
                if node.pipeline.name:
                    variables[node.pipeline.name] = value
                else:
                    self._write(written(value))
            else:
                self._block(node, dot, variables)

    def _block(self, block: _Block, dot: Any, variables: dict[str, Any]) -> None:
        value = self._value(block.pipeline, dot, variables)
        own = dict(variables) if not block.pipeline.name else {**variables, block.pipeline.name: value}
        if block.kind == "range" and is_true(value):
            for key, item in _items(value):
                names = dict(zip(block.names[::-1], (item, key), strict=False))  # of one name, it is the item's
                self.nodes(block.body, item, {**own, **names})
        elif is_true(value):
            self.nodes(block.body, value if block.kind == "with" else dot, own)
        else:
            self.nodes(block.other, dot, own)

    def _value(self, pipeline: _Pipeline, dot: Any, variables: dict[str, Any]) -> Any:
        given: tuple[Any, ...] = ()
        for command in pipeline.commands:
            self._count()
            first, *rest = command
            arguments = [self._operand(each, dot, variables) for each in rest]
            if first.kind == "name":
                given = (self._called(first.value, *arguments, *given),)
            elif rest or given:
                raise TemplateError("only a function takes arguments")
            else:
                given = (self._operand(first, dot, variables),)
        return given[0]

    def _operand(self, operand: _Operand, dot: Any, variables: dict[str, Any]) -> Any:
        if operand.kind == "group":
            return self._value(operand.value, dot, variables)
        if operand.kind == "name":
            return self._called(operand.value)
        if operand.kind == "value":
            return operand.value
        start, *names = operand.value
        if start and start not in variables:
            raise TemplateError(f"there is no variable {start}")
        value = variables[start] if start else dot
        for name in names:
            value = field_of(value, name)
        return value

    def _called(self, name: str, *values: Any) -> Any:
        self._take(sum(len(value) for value in values if isinstance(value, str | list)))
        result = FUNCTIONS[name](*values)
        self._take(len(result) if isinstance(result, str | list) else 0)
        return result

    def _write(self, text: str) -> None:
        self._take(len(text))
        self._out(text)

    def _take(self, size: int) -> None:
        self._made += size
        if self._made > MOST_TEXT:
            raise TemplateError(f"the template makes more than {MOST_TEXT:,} characters")

    def _count(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TemplateError(f"the template wants more than {_MOST_STEPS:,} steps")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        return iter(sorted(value.items()))
    if isinstance(value, list):
        return iter(enumerate(value))
    raise TemplateError(f"range can't go over {written(value)}")


def _bad(what: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--format: {what}", hint=hint)
