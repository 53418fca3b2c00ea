"""Reads the settings file. Every error points at the line and column of what is wrong.

The text is composed to YAML's nodes and read from them by what each key means; no object is ever constructed from a tag.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from imgbuild.errors import SettingsError, Source, Span
from imgbuild.settings import Settings
from imgbuild.settings.keys import read_settings
from imgbuild.settings.nodes import Document

_LARGEST = 1 << 20


def load_settings(path: Path) -> Settings:
    """The settings of a file; SettingsError where it can't be read or says what can't be meant."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        hint = "create it, or leave --config and IMGBUILD_CONFIG out" if isinstance(error, FileNotFoundError) else None
        raise SettingsError(f"can't read the settings file {path}: {error.strerror}", hint=hint) from None
    if len(data) > _LARGEST:
        raise SettingsError(f"the settings file {path} is larger than {_LARGEST >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        source = Source(str(path), tuple(data.decode("utf-8", "replace").splitlines()))
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError("the settings file is not UTF-8", at=Span(source, line, line)) from None
    return parse_settings(text, str(path), path.parent)


def parse_settings(text: str, name: str, directory: Path) -> Settings:
    """As `load_settings`, of a text; relative paths in it start at `directory`."""
    source = Source(name, tuple(text.splitlines()))
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        message = " ".join(filter(None, (error.context, error.problem)))
        raise SettingsError(f"the settings are not YAML: {message}", at=_span(source, error.problem_mark)) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError("the settings are not YAML", at=Span(source, 1, 1), detail=str(error)) from None
    document = Document(source, directory)
    return Settings() if root is None else read_settings(document, root)


def _span(source: Source, mark: yaml.Mark | None) -> Span | None:
    if mark is None:
        return None
    line = min(mark.line, max(len(source.lines) - 1, 0)) + 1
    return Span(source, line, line, mark.column + 1, mark.column + 2)
