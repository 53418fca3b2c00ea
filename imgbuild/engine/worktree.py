"""The time of the commit that a build context is at.

The context may be hostile, and its ``.git/config`` can name programs that git would run. So git is asked for one object, by the one
command that reads nothing else, with no transport allowed and none of the environment's own settings.
"""

from __future__ import annotations

from imgbuild.hints import Mapping
from imgbuild.light.pathlib import Path
from imgbuild.patterns import MULTILINE, pattern

_COMMITTER = pattern(rb"^committer .*> (\d{1,11}) [+-]\d{4}$", MULTILINE)
_SECONDS = 10


def commit_time(context: Path, environ: Mapping[str, str]) -> int | None:
    """The time in seconds since 1970, or None where the context is in no git work tree, or there is no git."""
    directory = context.resolve()
    if not any((parent / ".git").exists() for parent in (directory, *directory.parents)):
        return None
    import subprocess

    # A partial clone would fetch a missing object, by a command that its config names: no protocol is allowed, and git 2.44 never tries.
    options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never"]
    command = ["git", *options, "-C", str(directory), "cat-file", "commit", "HEAD"]
    environment = {
        "PATH": environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL, env=environment, cwd="/"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _COMMITTER.search(done.stdout.partition(b"\n\n")[0]) if done.returncode == 0 else None
    return int(found[1]) if found else None
