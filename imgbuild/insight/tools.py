"""Programs that fetch what others have made: what of the build context they read, and where they keep what they fetched. Pure.

They are told by the words of an instruction; what a shell script runs is not seen.
"""

from __future__ import annotations

from imgbuild.hints import Iterator
from imgbuild.light import re
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, and `words` that it is called with. `reads` are the names of files of a project that it goes by; `caches` the directories
    that it fills, of which `mounts` (all of them, where that says nothing) are worth a cache mount; `idle` are options that leave none."""

    name: str
    words: str
    reads: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    locked: bool = False
    """Whether only one may use the caches at a time."""


_PIP = ("*.txt", "*.in")  # requirement files may name others
_APT = r"(?:apt-get|apt)\s+(?:-\S+\s+)*(?:install|update|upgrade|dist-upgrade)"
_DNF = r"(?:dnf|yum|microdnf)\s+(?:-\S+\s+)*(?:install|update|upgrade|groupinstall)"
_PIP_WORDS = r"(?:pip3?|python3?(?:\.\d+)?\s+-m\s+pip)\s+(?:-\S+\s+)*(?:install|download|wheel)"
_CARGO = ("/usr/local/cargo/registry", "/root/.cargo/registry")
_GO = ("/go/pkg/mod", "/root/go/pkg/mod")
TOOLS = (
    Tool("apt-get", _APT, (), ("/var/cache/apt", "/var/lib/apt"), locked=True),
    Tool("apk", r"apk\s+(?:-\S+\s+)*(?:add|update|upgrade)", (), ("/var/cache/apk", "/etc/apk/cache"), ("--no-cache",)),
    Tool("dnf", _DNF, (), ("/var/cache/dnf", "/var/cache/yum"), locked=True),
    Tool("uv", r"uv\s+(?:sync|pip\s+(?:install|sync))", (*_PIP, "pyproject.toml", "uv.lock"), ("/root/.cache/uv",), ("--no-cache",)),
    Tool("pip", _PIP_WORDS, _PIP, ("/root/.cache/pip",), ("--no-cache-dir",)),
    Tool("poetry", r"poetry\s+install", ("pyproject.toml", "poetry.lock"), ("/root/.cache/pypoetry",), ("--no-cache",)),
    Tool("pnpm", r"pnpm\s+(?:install|i|fetch)\b", ("package.json", "pnpm-lock.yaml"), ("/root/.local/share/pnpm/store",)),
    Tool("npm", r"npm\s+(?:ci|install|i)\b", ("package.json", "package-lock.json", ".npmrc"), ("/root/.npm",)),
    Tool("yarn", r"yarn(?:\s+install\b|\s*(?:$|&&|;|--))", ("package.json", "yarn.lock", ".yarnrc*"), ("/usr/local/share/.cache/yarn",)),
    Tool("go mod", r"go\s+mod\s+download", ("go.mod", "go.sum"), _GO),
    Tool("go", r"go\s+(?:build|install|test|get)\b", ("*",), (*_GO, "/root/.cache/go-build")),
    Tool("cargo fetch", r"cargo\s+fetch", ("Cargo.toml", "Cargo.lock"), _CARGO),
    Tool("cargo", r"cargo\s+(?:build|install|test)\b", ("*",), _CARGO),
    Tool("bundle", r"bundle\s+install", ("Gemfile", "Gemfile.lock"), ("/usr/local/bundle/cache",)),
    Tool("composer", r"composer\s+(?:install|update)", ("composer.json", "composer.lock"), ("/root/.composer", "/root/.cache/composer")),
    Tool("mvn", r"mvn\s+.*dependency:(?:go-offline|resolve)", ("pom.xml",), ("/root/.m2",)),
    Tool("maven", r"mvn\s", ("*",), ("/root/.m2",)),
    Tool("gradle", r"(?:gradle|\./gradlew)\s", ("*",), ("/root/.gradle",)),
)
"""Those that are known. "*": it may read any file."""

_LOCAL = re.compile(r"[$`<]\(|`|<|(?:^|[\s=])\.{1,2}(?:/|[\s\[]|$)|\.(?:deb|rpm|apk|whl|tgz|tar\.gz)\b")
"""What may be a file of the project, or what a command says."""
_NAMED = re.compile(r"(?<!\S)(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)")


def tools_in(text: str) -> tuple[Tool, ...]:
    """The programs that a RUN calls, by its words."""
    return tuple(tool for tool in TOOLS if re.compile(rf"(?<![\w./-]){tool.words}").search(text))


def reads(text: str) -> tuple[str, ...] | None:
    """The names (patterns) of all files of a project that a RUN reads, where it does nothing but call known programs; None where that
    can't be told."""
    found: list[str] = []
    for command in _commands(text):
        tools = tools_in(command)
        if _LOCAL.search(command) or any("*" in tool.reads for tool in tools):
            return None
        if not tools and command.split(" ", 1)[0] not in _HARMLESS:
            return None
        found += (name for tool in tools for name in tool.reads)
        if any(tool.reads[:2] == _PIP for tool in tools):
            found += (match[1].rpartition("/")[2] for match in _NAMED.finditer(command))
    return tuple(dict.fromkeys(found))


_HARMLESS = ("rm", "set", "echo", "true", "mkdir", "export", "cd", "useradd", "groupadd", "adduser", "addgroup", "update-ca-certificates")


def _commands(text: str) -> Iterator[str]:
    """The commands of a RUN in shell form, without its flags."""
    words = text.split(" ")
    while words and (words[0] == "RUN" or words[0].startswith("--")):
        words = words[1:]
    for part in re.split(r"&&|\|\||;|\n", " ".join(words)):
        if command := part.strip():
            yield re.sub(r"^(?:[A-Za-z_]\w*=\S*\s+)+", "", command)


def mounted(text: str) -> tuple[str, ...]:
    """The directories that the cache mounts of an instruction are at."""
    found: list[str] = []
    for word in text.split(" "):
        if word.startswith("--mount=") and "type=cache" in word:
            found += (part.partition("=")[2] for part in word.split(",") if part.partition("=")[0] in ("target", "dst", "destination"))
    return tuple(path.rstrip("/") for path in found)
