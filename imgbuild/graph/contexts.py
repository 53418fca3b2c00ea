"""Named contexts as the graph sees them: what stands in the place of a base, a stage, or a ``from`` of that name.

A name counts in the form that docker's users write: ``docker.io/library/alpine:latest`` and ``alpine`` are one.
Source: BuildKit's dockerui (namedcontext) and dockerfile2llb. Not here: where a context comes from (engine).
"""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.graph.ops import BaseName
from imgbuild.hints import Mapping
from imgbuild.oci.reference import parse_reference
from imgbuild.values import dataclass

Contexts = Mapping[str, "ContextKind"]
"""What each named context is, by its name as `context_key` gives it."""


@dataclass(frozen=True, slots=True)
class ContextKind:
    """A context that is an image or, with `image` None, a tree of files; `scratch`: the empty image."""

    image: BaseName | None = None
    scratch: bool = False

    @property
    def files(self) -> bool:
        return self.image is None and not self.scratch


def context_key(text: str) -> str | None:
    """The name of a context as it is looked up; None where the text can't be one."""
    try:
        return parse_reference(text).familiar().removesuffix(":latest")
    except ImageError:
        return None


def find_context(contexts: Contexts, text: str) -> tuple[str, ContextKind] | None:
    """The named context that a base or a ``from`` means, if there is one of that name."""
    key = context_key(text) if contexts else None
    return (key, contexts[key]) if key is not None and key in contexts else None
