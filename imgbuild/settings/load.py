"""Reads the settings file. Every error points at the line and column of what is wrong.

The text is composed to YAML's nodes and read from them by what each key means; no object is ever constructed from a tag.
"""

from __future__ import annotations

from imgbuild.errors import SettingsError, Source
from imgbuild.light.pathlib import Path
from imgbuild.settings import Settings
from imgbuild.settings.keys import read_settings
from imgbuild.settings.nodes import Document
from imgbuild.settings.text import compose, read_text


def load_settings(path: Path) -> Settings:
    """The settings of a file; SettingsError where it can't be read or says what can't be meant."""
    hint = "create it, or leave --config and IMGBUILD_CONFIG out"
    return parse_settings(read_text(path, "the settings file", SettingsError, hint), str(path), path.parent)


def parse_settings(text: str, name: str, directory: Path) -> Settings:
    """As `load_settings`, of a text; relative paths in it start at `directory`."""
    source = Source(name, tuple(text.splitlines()))
    root = compose(text, source, "the settings are", SettingsError)
    return Settings() if root is None else read_settings(Document(source, directory), root)
