"""The words of ``run`` and ``exec`` as the runtime's options."""

from __future__ import annotations

import os
import stat

from imgbuild.errors import BuildfileError, UsageError
from imgbuild.hints import Any, Iterable, Mapping
from imgbuild.runtime import options as words_of
from imgbuild.runtime.options import ExecOptions, MountRequest, RunOptions
from imgbuild.sandbox.spec import Limits

_SMALLEST_MEMORY = 6 << 20
_LARGEST_FILE = 1 << 20
_OPEN_FILES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_SECURITY = {"no-new-privileges": "nnp", "no-new-privileges=true": "nnp", "no-new-privileges:true": "nnp", "seccomp=unconfined": "open"}


def run_options(words: Mapping[str, Any], environ: Mapping[str, str], directory: str) -> RunOptions:
    """All options of ``run``. `directory`: where relative paths start. UsageError where one can't be meant."""
    if words["stop_signal"]:
        words_of.parse_signal(words["stop_signal"])
    return RunOptions(
        command=tuple(words["command"]),
        entrypoint=_entrypoint(words["entrypoint"]),
        name=words["name"],
        env=_env(words, environ),
        user=words["user"],
        working_dir=words["workdir"],
        hostname=words_of.parse_hostname(words["hostname"]) if words["hostname"] else "",
        terminal=words["tty"],
        interactive=words["interactive"],
        detach=words["detach"],
        auto_remove=words["auto_remove"],
        mounts=_mounts(words, directory),
        network=words_of.parse_network(words["network"]),
        extra_hosts=tuple(words_of.parse_host(word) for word in words["hosts"]),
        limits=_limits(words),
        rlimits=tuple(words_of.parse_ulimit(word) for word in words["ulimits"]),
        sysctl=tuple(_pair(word, "--sysctl") for word in words["sysctls"]),
        read_only=words["read_only"],
        cap_add=_names(words["cap_add"]),
        cap_drop=_names(words["cap_drop"]),
        no_new_privileges="nnp" in _security(words["security"]),
        seccomp="open" not in _security(words["security"]),
        labels=words_of.parse_labels(words["labels"]),
        stop_signal=words["stop_signal"],
        stop_timeout=words["stop_timeout"],
    )


def exec_options(words: Mapping[str, Any], environ: Mapping[str, str]) -> ExecOptions:
    """All options of ``exec``."""
    return ExecOptions(
        command=tuple(words["command"]),
        env=_env(words, environ),
        user=words["user"],
        working_dir=words["workdir"],
        terminal=words["tty"],
        interactive=words["interactive"],
        detach=words["detach"],
    )


def _entrypoint(word: str | None) -> tuple[str, ...] | None:
    """Not given, reset by an empty word, or one program."""
    if word is None:
        return None
    return (word,) if word else ()


def _env(words: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in words["env_files"]:
        try:
            text = _read(name)
        except OSError as error:
            raise UsageError(f"can't read the environment file {name}: {error.strerror}") from None
        found += words_of.parse_env_file(text.decode("utf-8", "surrogateescape"), name, environ)
    return (*found, *words_of.parse_env(words["env"], environ))


def _read(name: str) -> bytes:
    """A file that a person wrote, whole. A named pipe is refused, as its other end may never come; what the caller has open, as a
    shell's <(...), is read like a file."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not name.startswith(_OPEN_FILES):
            raise UsageError(f"the environment file {name} is a named pipe")
        os.set_blocking(descriptor, True)
        data = file.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise UsageError(f"the environment file {name} is too large: more than {_LARGEST_FILE >> 20} MiB")
    return data


def _mounts(words: Mapping[str, Any], directory: str) -> tuple[MountRequest, ...]:
    if not any(words[kind] for kind in ("volumes", "mounts", "tmpfs", "shm_size")):
        return ()
    from imgbuild.runtime import mounts as mount_words

    requests = [mount_words.parse_volume(word, directory) for word in words["volumes"]]
    requests += [mount_words.parse_mount(word, directory) for word in words["mounts"]]
    requests += [mount_words.parse_tmpfs(word) for word in words["tmpfs"]]
    if words["shm_size"]:
        requests.append(mount_words.parse_tmpfs(f"/dev/shm:size={_size('--shm-size', words['shm_size'])}"))
    return tuple(requests)


def _limits(words: Mapping[str, Any]) -> Limits:
    if not any(words[limit] for limit in ("memory", "memory_swap", "cpus", "pids_limit")):
        return Limits()
    from imgbuild.buildfile import quantities

    memory = _size("--memory", words["memory"]) if words["memory"] else None
    swap = words["memory_swap"]
    if memory is not None and memory < _SMALLEST_MEMORY:
        raise UsageError(f"--memory {words['memory']}: less than 6 MiB is too little for any process")
    if swap and memory is None:
        raise UsageError("--memory-swap needs --memory")
    memory_swap = (-1 if swap == "-1" else _size("--memory-swap", swap)) if swap else None
    if memory_swap is not None and memory is not None and -1 < memory_swap < memory:
        raise UsageError("--memory-swap is memory and swap together: it can't be less than --memory")
    pids = words["pids_limit"]
    return Limits(
        memory=memory,
        memory_swap=memory_swap,
        cpus=_quantity("--cpus", words["cpus"], quantities.parse_cpus) / 1e9 if words["cpus"] else None,
        pids=_quantity("--pids-limit", pids, quantities.parse_count) or None if pids and pids != "-1" else None,
    )


def _size(option: str, word: str) -> int:
    from imgbuild.buildfile.quantities import parse_size

    return _quantity(option, word, parse_size)


def _quantity(option: str, word: str, parse: Any) -> int:
    try:
        return int(parse(word))
    except BuildfileError as error:
        raise UsageError(f"{option}: {error.message}", hint=error.hint) from None


def _names(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for word in words for name in word.split(",") if name)


def _security(words: Iterable[str]) -> set[str]:
    unknown = [word for word in words if word not in _SECURITY]
    if unknown:
        raise UsageError(f"--security-opt {unknown[0]} is not known", hint=f"options are: {', '.join(sorted(_SECURITY))}")
    return {_SECURITY[word] for word in words}


def _pair(word: str, option: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise UsageError(f"{option} {word!r} is not NAME=VALUE")
    return name, value
