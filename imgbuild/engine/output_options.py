"""``--output`` as it is written: docker buildx's kinds of outputs and their keys, checked before anything is started."""

from __future__ import annotations

import sys

from imgbuild.engine.annotations import Annotation, output_annotation
from imgbuild.errors import UsageError
from imgbuild.hints import TYPE_CHECKING, Mapping
from imgbuild.oci.reference import Reference
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.layer.compression import CompressionKind

_KINDS = ("oci", "docker", "local", "tar", "registry", "image", "cacheonly", "junit")
_IMAGES = ("oci", "docker", "registry", "image")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "type": _KINDS,
    "dest": ("oci", "docker", "local", "tar", "junit"),
    "name": _IMAGES,
    "tar": ("oci", "docker"),
    "push": ("registry", "image"),
    "push-by-digest": ("registry", "image"),
    "name-canonical": ("registry", "image"),
    "store": ("registry", "image"),
    "unpack": ("registry", "image"),
    "compression": _IMAGES,
    "force-compression": _IMAGES,
    "oci-mediatypes": _IMAGES,
    "rewrite-timestamp": _IMAGES,
    "platform-split": ("local",),
}
_ELSEWHERE = {
    "compression-level": "set compression-level in the settings file: it is that of all layers",
    "registry.insecure": "set insecure or plain-http of that registry in the settings file",
}
_COMPRESSIONS: Mapping[str, CompressionKind] = {"uncompressed": "none", "none": "none", "gzip": "gzip", "zstd": "zstd"}
_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


@dataclass(frozen=True, slots=True)
class Output:
    """One output. `dest` is a path, "-" for stdout, "" for none; `names` are those of ``name=``; `archive` is false for ``tar=false``;
    `docker` asks for docker's media types, `split` for a directory a platform (None: where there are several)."""

    kind: str
    dest: str = ""
    names: tuple[Reference, ...] = ()
    archive: bool = True
    push: bool = False
    by_digest: bool = False
    canonical: bool = False
    compression: CompressionKind | None = None
    docker: bool = False
    split: bool | None = None
    annotations: tuple[Annotation, ...] = ()


def parse_outputs(texts: tuple[str, ...]) -> tuple[Output, ...]:
    """Read ``--output`` values; UsageError where one is not understood."""
    parsed = (_parse(text) for text in texts)
    outputs = tuple(output for output in parsed if output.kind != "cacheonly")  # what is built stays in the store, in any case
    if sum(output.dest == "-" for output in outputs) > 1:
        raise UsageError("only one output can be stdout")
    return outputs


def refuse_single(outputs: tuple[Output, ...]) -> None:
    """UsageError where an output can't hold an index."""
    if any(output.kind == "docker" for output in outputs):
        raise UsageError(
            "--output type=docker holds an image for one platform, and several are built", hint="use type=oci, or build for one platform"
        )


def _parse(text: str) -> Output:
    if "=" not in text:
        return Output("tar", "-") if text == "-" else Output("local", text)
    option = f"--output {text!r}"
    fields, annotations = _fields(option, text)
    kind = fields.get("type", "")
    if kind not in _KINDS:
        from imgbuild.buildfile.suggest import did_you_mean

        raise UsageError(f"{option}: {kind!r} is not a type", hint=did_you_mean(kind, _KINDS) or f"it is one of {', '.join(_KINDS)}")
    for key in fields:
        if kind not in _KEYS[key]:
            raise UsageError(f"{option}: type={kind} has no {key}", hint=f"it is one of type={', type='.join(_KEYS[key])}")
    if annotations and kind not in _IMAGES:
        raise UsageError(f"{option}: type={kind} has no annotations")
    oci_types = _switch(option, fields, "oci-mediatypes", kind != "docker")
    if kind == "oci" and not oci_types:
        raise UsageError(f"{option}: an OCI layout has OCI media types", hint="use type=docker, or type=image,push=true")
    if kind == "docker" and "dest" not in fields and _switch(option, fields, "tar", True):
        kind = "image"  # without a place it is loaded: into the store, where it is already
    output = Output(
        kind=kind,
        dest=_dest(option, kind, fields.get("dest", "")),
        names=_names(fields.get("name", "")),
        archive=_switch(option, fields, "tar", True),
        push=_switch(option, fields, "push", kind == "registry"),
        by_digest=_switch(option, fields, "push-by-digest", False),
        canonical=_switch(option, fields, "name-canonical", False),
        compression=_compression(option, fields),
        docker=kind in ("image", "registry") and not oci_types,
        split=_switch(option, fields, "platform-split", True) if "platform-split" in fields else None,
        annotations=annotations,
    )
    for key in ("store", "unpack", "rewrite-timestamp"):  # what is built is in the store, and its times are bounded, in any case
        _switch(option, fields, key, False)
    if output.by_digest and not output.names:
        raise UsageError(f"{option}: push-by-digest needs the name of a repository", hint="add name=REGISTRY/REPOSITORY")
    return output


def _fields(option: str, text: str) -> tuple[dict[str, str], tuple[Annotation, ...]]:
    """The keys and values, separated by commas, unless they stand in double quotes."""
    import csv

    fields: dict[str, str] = {}
    annotations: list[Annotation] = []
    for part in next(csv.reader([text])):
        key, equals, value = part.partition("=")
        key = key.strip()
        if key.lower().startswith("annotation") and equals and (annotation := output_annotation(option, key, value)) is not None:
            annotations.append(annotation)
            continue
        key = key.lower()
        if key in _ELSEWHERE:
            raise UsageError(f"{option}: {key} is not said here", hint=_ELSEWHERE[key])
        if not equals or key not in _KEYS:
            from imgbuild.buildfile.suggest import did_you_mean

            raise UsageError(f"{option}: {part!r} is not understood", hint=did_you_mean(key, _KEYS) or "write type=KIND,dest=PATH")
        fields[key] = value
    return fields, tuple(annotations)


def _dest(option: str, kind: str, dest: str) -> str:
    if kind == "local" and (not dest or dest == "-"):
        raise UsageError(f"{option} needs dest=DIRECTORY")
    if kind == "junit" and not dest:
        raise UsageError(f"{option} needs dest=FILE")
    if kind in ("oci", "docker", "tar") and not dest:
        dest = "-"
    if dest == "-" and kind != "junit" and sys.stdout.isatty():
        raise UsageError(f"{option} would write an archive to the terminal", hint="add dest=FILE, or redirect stdout")
    return dest


def _names(text: str) -> tuple[Reference, ...]:
    if not text:
        return ()
    from imgbuild.engine.registries import reference

    return tuple(reference(name.strip()) for name in text.split(","))


def _compression(option: str, fields: Mapping[str, str]) -> CompressionKind | None:
    text = fields.get("compression", "")
    if _switch(option, fields, "force-compression", False) and not text:
        text = "gzip"
    if text and text not in _COMPRESSIONS:
        raise UsageError(f"{option}: compression {text!r} is not known", hint=f"it is one of {', '.join(_COMPRESSIONS)}")
    return _COMPRESSIONS[text] if text else None


def _switch(option: str, fields: Mapping[str, str], key: str, default: bool) -> bool:
    text = fields.get(key)
    if text is None:
        return default
    if text.lower() not in _TRUE + _FALSE:
        raise UsageError(f"{option}: {key}={text} is neither true nor false")
    return text.lower() in _TRUE
