"""Platforms: ``os/architecture[/variant]``, their normal forms, and which of an index's entries fits
(image-spec: image-index.md; the normal forms are those of containerd's platforms package)."""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.values import dataclass

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
}
_KNOWN_OS = ("linux", "windows", "darwin", "freebsd", "wasi")
_KNOWN_ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system, a processor architecture (GOARCH names) and perhaps its variant."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def accepts(self, other: Platform) -> bool:
        """Whether an image for `other` runs here. arm64 without a variant and with v8 are the same; later variants run what is made for
        earlier ones."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        mine, theirs = _variant(self), _variant(other)
        if mine == theirs or not theirs:
            return True
        return self.architecture in ("arm", "amd64", "arm64") and mine > theirs


def _variant(platform: Platform) -> str:
    if platform.architecture == "arm64":
        return platform.variant or "v8"
    if platform.architecture == "amd64":
        return platform.variant or "v1"
    if platform.architecture == "arm":
        return platform.variant or "v7"
    return platform.variant


def normalize(os: str, architecture: str, variant: str = "") -> Platform:
    """The normal form: lower case, GOARCH names, no variant where it is the default one."""
    arch, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    chosen = variant.lower() or implied
    if (arch, chosen) in (("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")):
        chosen = ""
    if arch == "arm":
        chosen = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(chosen, chosen)
    return Platform("darwin" if os.lower() == "macos" else os.lower(), arch, chosen)


def parse_platform(text: str, default: Platform) -> Platform:
    """Read ``linux/arm64``, ``arm64`` or ``linux``; what is left out comes from `default`, and ``local`` is that itself."""
    parts = text.split("/")
    if not text or len(parts) > 3 or not all(part and part.replace(".", "").replace("_", "").replace("-", "").isalnum() for part in parts):
        raise ImageError(f"invalid platform {text!r}", hint="a platform is os/architecture or os/architecture/variant")
    if text == "local":
        return default
    if len(parts) > 1:
        return normalize(*parts)
    if parts[0].lower() in _KNOWN_OS:
        return normalize(parts[0], default.architecture, default.variant)
    found = normalize(default.os, parts[0])
    if found.architecture not in _KNOWN_ARCHITECTURES:
        raise ImageError(f"{text!r} is not the name of a known operating system or architecture", hint="write os/architecture: linux/arm64")
    return found
