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
    that it fills; `idle` is what leaves nothing there, an option or a command, and `before` a command without which nothing is left."""

    name: str
    words: str
    reads: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    before: str = ""
    locked: bool = False
    """Whether only one may use the caches at a time."""


_PIP = ("*.txt", "*.in")  # requirement files may name others
_APT = r"(?:apt-get|apt)\s+(?:-\S+\s+)*(?:install|update|upgrade|dist-upgrade)"
_APT_BEFORE = "rm -f /etc/apt/apt.conf.d/docker-clean"  # by which Debian's images delete what was fetched
_DNF = r"(?:dnf|yum|microdnf)\s+(?:-\S+\s+)*(?:install|update|upgrade|groupinstall)"
_PIP_WORDS = r"(?:pip3?|python3?(?:\.\d+)?\s+-m\s+pip)\s+(?:-\S+\s+)*(?:install|download|wheel)"
_CARGO = ("/usr/local/cargo/registry", "/root/.cargo/registry")
_UV, _UV_APART = ("/root/.cache/uv",), "--no-install-(?:project|workspace)"
_POETRY = ("/root/.cache/pypoetry",)
_GO = ("/go/pkg/mod", "/root/go/pkg/mod")
TOOLS = (
    Tool("apt-get", _APT, (), ("/var/cache/apt", "/var/lib/apt"), ("rm -rf /var/lib/apt/lists/*",), _APT_BEFORE, locked=True),
    Tool("apk", r"apk\s+(?:-\S+\s+)*(?:add|update|upgrade)", (), ("/var/cache/apk", "/etc/apk/cache"), ("--no-cache",)),
    Tool("dnf", _DNF, (), ("/var/cache/dnf", "/var/cache/yum"), locked=True),
    Tool("uv", r"uv\s+pip\s+(?:install|sync)", (*_PIP, "pyproject.toml", "uv.lock"), _UV, ("--no-cache",)),
    Tool("uv", rf"uv\s+sync\b(?=.*{_UV_APART})", ("pyproject.toml", "uv.lock"), _UV, ("--no-cache",)),
    Tool("uv", rf"uv\s+sync\b(?!.*{_UV_APART})", ("*",), _UV, ("--no-cache",)),
    Tool("pip", _PIP_WORDS, _PIP, ("/root/.cache/pip",), ("--no-cache-dir",)),
    Tool("poetry", r"poetry\s+install\b(?=.*--no-root)", ("pyproject.toml", "poetry.lock"), _POETRY, ("--no-cache",)),
    Tool("poetry", r"poetry\s+install\b(?!.*--no-root)", ("*",), _POETRY, ("--no-cache",)),  # the project is installed, too
    Tool("pnpm", r"pnpm\s+(?:install|i|fetch)\b", ("package.json", "pnpm-lock.yaml"), ("/root/.local/share/pnpm/store",)),
    Tool("npm", r"npm\s+(?:ci|install|i)\b", ("package.json", "package-lock.json", ".npmrc"), ("/root/.npm",)),
    Tool("yarn", r"yarn(?:\s+install\b|\s*(?:$|&&|;|--))", ("package.json", "yarn.lock", ".yarnrc*"), ("/usr/local/share/.cache/yarn",)),
    Tool("go mod", r"go\s+mod\s+download", ("go.mod", "go.sum"), _GO),
    Tool("go", r"go\s+(?:build|install|test|get)\b", ("*",), (*_GO, "/root/.cache/go-build")),
    Tool("cargo", r"cargo\s+(?:build|fetch|install|test)\b", ("*",), _CARGO),  # none does anything without a target's sources
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
        if tools and (not _begins(command, tools) or _names_files(command, tools)):
            return None
        if not tools and not _is_harmless(command):
            return None
        found += (name for tool in tools for name in tool.reads)
        if any(tool.reads[:2] == _PIP for tool in tools):
            found += (match[1].rpartition("/")[2] for match in _NAMED.finditer(command))
    return tuple(dict.fromkeys(found))


_HARMLESS = ("set", "echo", "true", "mkdir", "export", "cd", "useradd", "groupadd", "adduser", "addgroup")
_OWN = re.compile(r"rm\s+(?:-\S+\s+)*(?:/(?:var/(?:lib|cache|log)|tmp|var/tmp|root/\.\w+|usr/share)/\S*\s*)+")
"""Removes what programs left, and nothing of a project."""


def _is_harmless(command: str) -> bool:
    return command.split(" ", 1)[0] in _HARMLESS or _OWN.fullmatch(command) is not None


def _begins(command: str, tools: tuple[Tool, ...]) -> bool:
    """Whether one of the programs is what is called: another may read more, as ``xargs`` does."""
    return any(re.compile(rf"(?:sudo\s+|exec\s+)?{tool.words}").match(command) for tool in tools)


def _names_files(command: str, tools: tuple[Tool, ...]) -> bool:
    """Whether it may be given files or directories of the project, beside lists of what is to be installed."""
    relative = any(tool.reads[:2] == _PIP for tool in tools)
    words = [word for word in _NAMED.sub("", command).split() if not word.startswith("-")]
    return any(word.startswith("/") or (relative and "/" in word and "://" not in word) for word in words)


def sets_up(text: str) -> bool:
    """Whether a COPY or ADD writes what programs go by wherever they are called: sources of packages, certificates, settings."""
    words = [word for word in text.split() if not word.startswith("--")]
    if not words[1:]:
        return False
    if words[1].startswith("["):
        words = re.sub(r'[\[\]",]+', " ", " ".join(words)).split()
    *sources, last = words[1:]
    return _SYSTEM.match(last) is not None or (last == "/" and any(_is_directory(source) for source in sources))


_SYSTEM = re.compile(r"(?:/(?:etc|lib|usr/lib|usr/share|usr/local/share|usr/local/etc|var/lib)(?:/|$))|/(?:root|home/[^/]+)/\.")


def _is_directory(source: str) -> bool:
    """Whether a source is a directory of files for everywhere, by its name."""
    name = source.rstrip("/").rpartition("/")[2]
    return source.endswith("/") or name in ("", ".", "..") or name in ("rootfs", "root", "files", "overlay", "etc", "system")


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
