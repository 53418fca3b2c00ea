"""The files that say what was built: ``--iidfile`` and ``--metadata-file``."""

from __future__ import annotations

from imgbuild.engine.request import BuildRequest
from imgbuild.errors import UsageError
from imgbuild.hints import TYPE_CHECKING
from imgbuild.light import json
from imgbuild.light.pathlib import Path

if TYPE_CHECKING:
    from imgbuild.engine.build import BuildResult


def write_files(request: BuildRequest, result: BuildResult) -> None:
    """The files that say what was built."""
    if request.iidfile:
        write_text(request.iidfile, result.image_id)
    if request.metadata_file:
        write_text(request.metadata_file, json.dumps(metadata(result), indent=2) + "\n")


def metadata(result: BuildResult) -> dict[str, object]:
    """What was built, in docker buildx's words."""
    descriptor = {"mediaType": result.descriptor.media_type, "digest": result.digest, "size": result.descriptor.size}
    facts: dict[str, object] = {"containerimage.digest": result.digest, "containerimage.descriptor": descriptor}
    if result.image_id != result.digest:  # an index has no config
        facts["containerimage.config.digest"] = result.image_id
    if result.names:
        facts["image.name"] = ",".join(str(name) for name in result.names)
    return facts


def write_text(path: str, text: str) -> None:
    """UsageError where the file that an option names can't be written."""
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}") from None
