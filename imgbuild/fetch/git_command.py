"""The ``git`` program, kept from everything that a hostile repository, URL or configuration could make of it.

No hooks, no system or user configuration but for credentials, only protocols that fetch, no prompt, no editor, no pager, and nobody's
environment but what reaches a server: proxies, certificates, the ssh agent. Nothing secret is on a command line.
"""

from __future__ import annotations

import subprocess

from imgbuild.fetch import FetchError
from imgbuild.hints import Mapping
from imgbuild.light.pathlib import Path
from imgbuild.registry.redaction import redacted
from imgbuild.values import dataclass

_PASSED = (
    "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
    *(name for plain in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (plain, plain.upper())),
)  # fmt: skip

_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.logAllRefUpdates", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "main"),
    ("http.lowSpeedLimit", "100"),
    ("http.lowSpeedTime", "120"),
    ("submodule.recurse", "false"),
)

_MOST_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git with `environ`, the user's own, as far as it is let through. `secret_settings` are pairs of configuration."""

    environ: Mapping[str, str]
    secret_settings: tuple[tuple[str, str], ...] = ()

    def run(self, *arguments: str, directory: Path | None = None, what: str) -> str:
        """The output of a git command; FetchError, which begins with `what`, where it fails."""
        code, out, err = self._run(arguments, directory)
        if code != 0:
            raise self._failed(what, err)
        return out

    def succeeds(self, *arguments: str, directory: Path | None = None) -> bool:
        """Whether a git command ends well."""
        return self._run(arguments, directory)[0] == 0

    def _run(self, arguments: tuple[str, ...], directory: Path | None) -> tuple[int, str, str]:
        place = ("-C", str(directory)) if directory is not None else ()
        try:
            done = subprocess.run(
                ("git", *place, *arguments),
                capture_output=True,
                check=False,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                cwd="/",
                umask=0o022,
            )
        except FileNotFoundError:
            raise FetchError("the program git is not there", hint="install it, to use Git repositories as sources") from None
        except OSError as error:
            raise FetchError(f"can't run git: {error.strerror}") from None
        return done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "replace")

    def _environment(self) -> dict[str, str]:
        environment = {name: self.environ[name] for name in _PASSED if name in self.environ} | {
            "PATH": self.environ.get("PATH", "/usr/bin:/bin"),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=20",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_PAGER": "cat",
            "GIT_EDITOR": "/bin/false",
        }
        settings = (*_SETTINGS, *self.secret_settings)
        environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (name, value) in enumerate(settings):
            environment[f"GIT_CONFIG_KEY_{number}"] = name
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        return environment

    def _failed(self, what: str, err: str) -> FetchError:
        words = redacted(err, [value for _, value in self.secret_settings])[-_MOST_WORDS:].strip()
        return FetchError(what, hint=_hint(words), detail=words or None)


def user_credential_settings(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What the user's own configuration says of credentials: the one part of it that counts here."""
    command = ("git", "config", "--global", "--includes", "--null", "--get-regexp", r"^credential\.")
    environment = {name: environ[name] for name in ("PATH", "HOME", "XDG_CONFIG_HOME") if name in environ}
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, env=environment, cwd="/")
    except OSError:
        return ()
    entries = (entry.partition("\n") for entry in done.stdout.decode("utf-8", "surrogateescape").split("\0") if entry)
    return tuple((name, value) for name, _, value in entries)


def _hint(words: str) -> str | None:
    lower = words.lower()
    if "authentication failed" in lower or "could not read username" in lower or "terminal prompts disabled" in lower:
        return "a token is given with --secret id=GIT_AUTH_TOKEN,src=FILE; a credential helper of your git configuration is asked, too"
    if "permission denied (publickey" in lower or "host key verification failed" in lower:
        return "ssh uses your agent, keys and known_hosts, and can't ask anything here: try `ssh -T` to that host first"
    if "not found" in lower or "does not exist" in lower or "access denied" in lower or "not exported" in lower:
        return "check the URL; a private repository needs credentials"
    far = any(words in lower for words in ("unable to connect", "could not resolve", "unable to look up", "failed to connect"))
    return "check the URL and the network" if far else None
