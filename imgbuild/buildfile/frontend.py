"""Which language a ``syntax`` directive asks for: any reference to a Dockerfile frontend is this one, whatever its version or mirror."""

from __future__ import annotations

from imgbuild.buildfile.instructions import Directive
from imgbuild.errors import Span, UnsupportedError
from imgbuild.patterns import pattern

_TAG_OR_DIGEST = pattern(r"(?::[^/:@]*)?(?:@.*)?$")
_NAMES = ("dockerfile", "dockerfile-upstream", "dockerfile.v0", "buildfile")


def check_frontend(reference: str, at: Span | None) -> None:
    """Refuse another language than the Dockerfile's. `reference` is an image reference, and perhaps arguments after a blank."""
    words = reference.split(None, 1)
    name = _TAG_OR_DIGEST.sub("", words[0]) if words else ""
    if name.rpartition("/")[2].lower() not in _NAMES:
        raise UnsupportedError(
            f"the language of {words[0] if words else 'an empty name'} is not known here",
            at=at,
            hint="a Buildfile is a Dockerfile: docker/dockerfile of any version, or no syntax directive at all",
        )


def check_directives(directives: tuple[Directive, ...]) -> None:
    """Refuse a file that asks for another language, at the line that does."""
    for directive in directives:
        if directive.name == "syntax":
            check_frontend(directive.value, directive.span)
