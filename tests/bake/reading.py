"""Build files as texts, read and resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from imgbuild.bake.keys import Base
from imgbuild.bake.overrides import parse_override
from imgbuild.bake.project import BuildFile, Project, read_project
from imgbuild.bake.select import Selection, select
from imgbuild.errors import ImgbuildError
from imgbuild.settings.tree import parse_tree


@dataclass
class Read:
    """Build files that were read, and what was said meanwhile."""

    project: Project
    notices: list[str] = field(default_factory=list)
    environ: Mapping[str, str] = field(default_factory=dict)

    def select(self, *words: str, sets: Sequence[str] = ()) -> Selection:
        overrides = [parse_override(text, self.project.targets, self.environ) for text in sets]
        return select(self.project, words, overrides)

    def values(self, name: str, *, sets: Sequence[str] = ()) -> dict[str, object]:
        """What one target says in the end."""
        return dict(self.select(name, sets=sets).targets[name].values)


def read(
    *texts: str,
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
    directory: str = "",
    dotenv: Mapping[str, str] | None = None,
) -> Read:
    notices: list[str] = []
    files = [BuildFile(parse_tree(text, f"file{number or ''}"), Base(directory), dotenv) for number, text in enumerate(texts)]
    return Read(read_project(files, environ or {}, given or {}, notices.append), notices, environ or {})


def refused(*texts: str, words: Sequence[str] = (), sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> str:
    """The error that reading or resolving ends with: where, what, and the hint."""
    with pytest.raises(ImgbuildError) as caught:
        read(*texts, environ=environ).select(*words, sets=sets)
    error = caught.value
    place = f"{error.at}: " if error.at else ""
    return f"{place}{error.message}" + (f" ({error.hint})" if error.hint else "")
