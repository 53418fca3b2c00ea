"""Why a step failed: from evidence to words. What the words claim is what the evidence holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from imgbuild.errors import Source, Span
from imgbuild.graph.ops import Limits, RunOp
from imgbuild.sandbox.spec import ExitStatus, Usage
from imgbuild.solve.causes import Cause, Evidence, FileFact, find_cause
from imgbuild.solve.clues import find_clue, right_of
from imgbuild.solve.failing import place_of

RUN = RunOp(("/bin/sh", "-c", "make"), (), "/", "", 0)
LIMITED = replace(RUN, limits=Limits(memory=64 << 20, timeout=90.0, idle_timeout=1.5))
PEAK = Usage(peak_memory=64 << 20)
ELF = FileFact("file", 0o755, form="elf", machine="x86_64")


def cause(op: RunOp, status: ExitStatus, output: str = "", **more: Any) -> Cause:
    return find_cause(Evidence(op, status, clue=find_clue(output), machine="x86_64", **more))


@pytest.mark.parametrize(
    ("op", "status", "more", "kind", "words"),
    [
        (RUN, ExitStatus(2), {}, "exit", "exit code 2"),
        (RUN, ExitStatus(0, signal=9), {}, "signal", "signal 9 (SIGKILL)"),
        (RUN, ExitStatus(0, signal=11), {}, "signal", "signal 11 (SIGSEGV, segmentation fault)"),
        (RUN, ExitStatus(0, signal=31), {}, "signal", "SIGSYS"),
        (RUN, ExitStatus(0, signal=35), {}, "signal", "signal 35"),
        (LIMITED, ExitStatus(137, signal=9, oom=True, usage=PEAK), {}, "memory", "limit 64.0 MiB, peak 64.0 MiB"),
        (RUN, ExitStatus(137, signal=9, oom=True, usage=PEAK), {}, "memory", "the machine ran out of memory"),
        (LIMITED, ExitStatus(137, signal=9), {"expired": "timeout"}, "timeout", "--timeout of 90 s"),
        (LIMITED, ExitStatus(137, signal=9), {"expired": "idle-timeout"}, "idle-timeout", "--idle-timeout of 1.5 s"),
        (RUN, ExitStatus(1), {"full": "the store's disk"}, "space", "no space was left"),
        (RUN, ExitStatus(125, setup_error="mounting /x: no such device"), {}, "start", "did not start: mounting /x"),
    ],
)
def test_what_was_measured_is_said_first(op: RunOp, status: ExitStatus, more: dict[str, object], kind: str, words: str) -> None:
    found = cause(op, status, "whatever: Permission denied", **more) if kind != "exit" else cause(op, status, "", **more)
    assert found.kind == kind
    assert words in found.message


def test_a_kill_that_nobody_counted_is_not_called_one_for_memory() -> None:
    found = cause(RUN, ExitStatus(0, signal=9, usage=Usage(oom_kills=0)))
    assert "memory" not in found.message
    assert found.notes == ("imgbuild did not send it, and its control group counted no kill for lack of memory",)
    assert "is not known" in cause(RUN, ExitStatus(0, signal=9)).notes[0]


def test_what_others_went_on_after_is_not_called_the_reason() -> None:
    output = "/bin/sh: gti: not found\nmkdir: can't create directory '/a/b': No such file or directory"
    found = cause(RUN, ExitStatus(1), output, program="gti", searched=("/bin",))
    assert found.message == "the command ended with exit code 1; before that, 'gti' was not found in PATH"
    assert cause(RUN, ExitStatus(127), output, program="gti").message == "the command ended with exit code 127: 'gti' was not found in PATH"


@pytest.mark.parametrize(("code", "note"), [(139, "SIGSEGV"), (137, "SIGKILL"), (255, None), (3, None)])
def test_exit_codes_of_signals(code: int, note: str | None) -> None:
    notes = cause(RUN, ExitStatus(code)).notes
    assert (note in notes[0]) if note else notes == ()


FACTS = [
    ("nope", "", {}, "'nope' was not found in PATH", None),
    ("gti", "", {"near": ("git", "ls")}, "'gti' was not found in PATH", "did you mean git?"),
    ("go", "", {"elsewhere": ("/usr/local/go/bin/go",)}, "'go' was not found", "ENV PATH=/usr/local/go/bin:$PATH"),
    ("/run.sh", "/run.sh", {"near": ("/ran.sh",)}, "'/run.sh' does not exist in the step's root", "did you mean /ran.sh?"),
    ("./a", "/w/a", {"files": {"/w/a": FileFact("file", 0o644)}}, "'./a' (/w/a) is not executable: its mode is 0644", "chmod"),
    ("/a", "/a", {"files": {"/a": FileFact("directory", 0o755)}}, "'/a' is a directory", None),
    ("/a", "/a", {"files": {"/a": replace(ELF, machine="aarch64")}}, "a program for aarch64, and this is x86_64", "--platform"),
    (
        "/a", "/a", {"files": {"/a": FileFact("file", 0o755, form="script", interpreter="/bin/bash", interpreter_there=False)}},
        "its first line names, '/bin/bash', is not", "install the interpreter",
    ),
    (
        "/a", "/a", {"files": {"/a": FileFact("file", 0o755, form="script", interpreter="/bin/sh\r", interpreter_there=False)}},
        "is not", "line ends",
    ),
    (
        "/a", "/a", {"files": {"/a": replace(ELF, interpreter="/lib/ld-musl-x86_64.so.1", interpreter_there=False)}},
        "its loader /lib/ld-musl-x86_64.so.1 (PT_INTERP) is not", "musl",
    ),
    (
        "/a", "/a", {"files": {"/a": replace(ELF, interpreter="/lib64/ld-linux-x86-64.so.2", interpreter_there=False)}},
        "its loader /lib64/ld-linux-x86-64.so.2 (PT_INTERP) is not", "glibc",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("program", "at", "more", "words", "hint"), FACTS)
@pytest.mark.parametrize("setup", ["x: no such file", ""])
def test_programs(program: str, at: str, more: dict[str, object], words: str, hint: str | None, setup: str) -> None:
    """The same words where the command itself did not start, and where a shell in it said so."""
    found = cause(RUN, ExitStatus(127, setup_error=setup), program=program, at=at, searched=("/bin",), **more)
    assert words in found.message
    assert found.message.startswith("the command did not start: " if setup else "the command ended with exit code 127: ")
    assert (hint in (found.hint or "")) if hint else found.hint is None
    assert found.word == program


def test_what_was_in_a_mount_is_not_called_missing() -> None:
    found = cause(RUN, ExitStatus(127), program="/src/x", at="/src/x", mounts=(("/src", True),))
    assert found.message == "the command ended with exit code 127"


def test_a_program_that_is_there_and_can_be_run_is_not_accused() -> None:
    found = cause(RUN, ExitStatus(126), program="/a", at="/a", files={"/a": ELF})
    assert found.message == "the command ended with exit code 126"


def test_an_image_without_a_shell() -> None:
    found = cause(RUN, ExitStatus(127, setup_error="/bin/sh: no such file"), program="/bin/sh", at="/bin/sh")
    assert "no shell" in found.message
    assert "exec form" in (found.hint or "")


def test_a_list_that_was_meant() -> None:
    op = replace(RUN, argv=("/bin/sh", "-c", '["a" "b"]'))
    assert "JSON" in (cause(op, ExitStatus(127)).hint or "")


FULL: dict[str, Any] = {"op": LIMITED, "status": ExitStatus(1, usage=PEAK)}
OUTPUTS = [
    ("/a: error while loading shared libraries: libx.so.1: cannot open shared object file: No such file", {}, "library", "libx.so.1"),
    ("Error loading shared library libx.so.1: No such file or directory (needed by /a)", {}, "library", "libx.so.1"),
    ("W: Failed to fetch x  Temporary failure resolving 'deb.example.org'\nE: Unable to locate", {}, "dns", "'deb.example.org'"),
    ("curl: (6) Could not resolve host: example.org", {}, "dns", "'example.org'"),
    ("wget: bad address 'example.org'", {}, "dns", "'example.org'"),
    ("dial tcp: lookup proxy.example.org on 10.0.0.2:53: no such host", {}, "dns", "'proxy.example.org'"),
    ("npm ERR! getaddrinfo EAI_AGAIN registry.example.org", {}, "dns", "'registry.example.org'"),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", {}, "dns", "a name was not resolved"),
    ("dd: writing '/dev/shm/x': No space left on device", {"mounts": (("/dev/shm", False),)}, "space", "/dev/shm is full"),
    ("touch: /src/x: Read-only file system", {"mounts": (("/src", True),)}, "read-only", "the step's mount at /src"),
    ("/bin/sh: can't create /proc/sys/kernel/x: Read-only file system", {}, "read-only", "/proc or /sys"),
    ("mount: permission denied (are you root?)", {}, "not-permitted", "not permitted"),
    ("unshare: unshare(0x20000): Operation not permitted", {}, "not-permitted", "not permitted"),
    ("FATAL ERROR: Reached heap limit - JavaScript heap out of memory", FULL, "memory", "peak 64"),
    ("/bin/sh: can't fork: Resource temporarily unavailable", {"op": replace(RUN, limits=Limits(pids=5))}, "processes", "could not start"),
    ("curl: (60) SSL certificate problem", {"files": {"/etc/ssl/certs": FileFact()}}, "tls", "not trusted"),
]
MENTIONED = [
    ("/a: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /a)", "GLIBC_2.38"),
    ("ping: connect: Network is unreachable", "the network: network is unreachable"),
    ("curl: (7) Failed to connect to 10.0.0.1 port 80: Connection refused", "connection refused"),
    ("curl: (60) SSL certificate problem: unable to get local issuer certificate", "not trusted"),
    ("x509: certificate signed by unknown authority", "not trusted"),
    ("cp: error writing '/x': No space left on device", "no space"),
    ("OSError: [Errno 28] inotify watch limit reached: inotify_add_watch: No space left on device", "inotify"),
    ("write: Disk quota exceeded", "quota"),
    ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", "no more memory"),
    ("MemoryError", "no more memory"),
    ("/bin/sh: can't fork: Resource temporarily unavailable", "could not start a process"),
    ("touch: cannot touch '/etc/x': Permission denied", "/etc/x"),
    ("/bin/sh: can't create /etc/x: Permission denied", "/etc/x"),
    ("PermissionError: [Errno 13] Permission denied: '/etc/x'", "/etc/x"),
    ("touch: /x: Read-only file system", "read-only"),
    ("io_uring_setup: Function not implemented", "a system call that is not there"),
]


@pytest.mark.parametrize(("output", "more", "kind", "words"), OUTPUTS)
def test_what_the_output_says_and_facts_bear_out(output: str, more: dict[str, Any], kind: str, words: str) -> None:
    own = {"op": RUN, "status": ExitStatus(1), **more}
    found = cause(output=f"before\n{output}\nafter\n", **own)
    assert found.kind == kind, found
    assert words in found.message
    quoted = " ".join(found.notes)
    assert any(line in quoted for line in output.split("\n")), "the line that it rests on is quoted"
    first, _, _ = output.partition("\n")
    assert "its output: " not in " ".join(cause(output=first, **own).notes), "unless it is the last"


@pytest.mark.parametrize(("output", "words"), MENTIONED)
def test_what_only_the_output_says_is_a_note(output: str, words: str) -> None:
    """A word in a log is not yet the reason: no fact bears it out, so how the command ended is all that is claimed."""
    found = cause(RUN, ExitStatus(1), f"before\n{output}\nafter\n", nameservers=("10.0.0.2",))
    assert (found.kind, found.message) == ("exit", "the command ended with exit code 1")
    assert found.notes[0].startswith("its output mentions ")
    assert words in found.notes[0]
    assert any(line in found.notes[0] for line in output.split("\n")), "the line that it rests on is quoted"
    assert found.hint is None or found.hint.startswith("if that is why: ")
    last = cause(RUN, ExitStatus(1), output.partition("\n")[0], nameservers=("10.0.0.2",))
    assert last.notes[0].startswith("its output mentions ")
    assert '"' not in last.notes[0], "unless it is the last"


@pytest.mark.parametrize(
    "output",
    [
        "", "all is well", "checking for libx.so.1... no", "hint: see resolv.conf", "make: *** [all] Error 2",
        "tar: x: Cannot change mode: Operation not permitted\n" + "ok\n" * 6 + "failed",
        "rm: cannot remove 'x': Permission denied\n" + "ok\n" * 6 + "failed",
    ],
)  # fmt: skip
def test_what_says_nothing_is_no_cause(output: str) -> None:
    assert cause(RUN, ExitStatus(1), output).kind == "exit"


def test_no_network_is_what_was_asked_for() -> None:
    offline = replace(RUN, network="none")
    assert "--network=none" in cause(offline, ExitStatus(1), "wget: bad address 'example.org'").message
    assert "--network=none" in cause(offline, ExitStatus(1), "connect: Network is unreachable").message
    named = cause(RUN, ExitStatus(1), "wget: bad address 'example.org'", nameservers=("10.0.0.2",))
    assert "10.0.0.2" in " ".join(named.notes)
    assert named.message == "the command ended with exit code 1"
    assert "no nameserver" in " ".join(cause(RUN, ExitStatus(1), "wget: bad address 'example.org'").notes)


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("mount: permission denied (are you root?)", "SYS_ADMIN"),
        ("RTNETLINK answers: Operation not permitted", "NET_ADMIN"),
        ("strace: ptrace(PTRACE_TRACEME): Operation not permitted", "SYS_PTRACE"),
        ("chown: /x: Operation not permitted", ""),
    ],
)
def test_rights(line: str, right: str) -> None:
    assert right_of(line)[0] == right
    found = cause(RUN, ExitStatus(1), line)
    assert (right in " ".join(found.notes)) if right else "no more" in " ".join(found.notes)
    assert ("security.insecure" in (found.hint or "")) == bool(right)
    assert "security.insecure" not in (cause(replace(RUN, security="insecure"), ExitStatus(1), line).hint or "")


def test_who_owns_what_was_denied() -> None:
    op = replace(RUN, user="ann")
    found = cause(op, ExitStatus(1), "touch: cannot touch '/etc/x': Permission denied", files={"/etc/x": FileFact("file", 0o644, 0, 0)})
    assert "/etc/x belongs to 0:0, its mode is 0644" in found.notes
    assert "the step's user is 'ann'" in found.notes
    assert "--chown" in (found.hint or "")


def test_a_library_that_is_there_but_not_where_the_loader_looks() -> None:
    output = "/a: error while loading shared libraries: libx.so.1: cannot open shared object file"
    found = cause(RUN, ExitStatus(127), output, elsewhere=("/opt/lib/libx.so.1",))
    assert "LD_LIBRARY_PATH=/opt/lib" in (found.hint or "")
    other = cause(RUN, ExitStatus(127), output, elsewhere=("/lib/libx.so.2",))
    assert "there is /lib/libx.so.2: another version" in other.notes


@pytest.mark.parametrize(
    ("line", "kind", "word"),
    [
        ("/bin/sh: gti: not found", "not-found", "gti"),
        ("/bin/sh: 1: gti: not found", "not-found", "gti"),
        ("/bin/bash: line 1: gti: command not found", "not-found", "gti"),
        ("/run.sh: line 3: gti: not found", "not-found", "gti"),
        ("/run.sh: 3: gti: not found", "not-found", "gti"),
        ("zsh:1: command not found: gti", "not-found", "gti"),
        ("env: can't execute 'python': No such file or directory", "not-found", "python"),
        ("/usr/bin/env: ‘python’: No such file or directory", "not-found", "python"),
        ("make: cc: No such file or directory", "not-found", "cc"),
        ("/bin/sh: 1: exec: gti: not found", "not-found", "gti"),
        ("bash: ./x: /bin/foo: bad interpreter: No such file or directory", "interpreter", "/bin/foo"),
        ("/bin/sh: line 1: ./x: cannot execute: required file not found", "interpreter", "./x"),
        ("bash: ./x: cannot execute binary file: Exec format error", "format", "./x"),
        ("exec /x: Exec format error", "format", "/x"),
    ],
)
def test_clues(line: str, kind: str, word: str) -> None:
    found = find_clue(f"some\noutput\n{line}\n")
    assert found is not None
    assert (found.kind, found.word, found.line, found.last) == (kind, word, line, True)


def test_the_caret_is_under_the_word_where_it_stands_once() -> None:
    source = Source("Buildfile", ("FROM x", "RUN make && \\", "    gti status", "RUN gti; gti", "RUN egti"))
    place = place_of(Span(source, 2, 3), Cause("not-found", "", word="gti"))
    assert (place.line, place.end_line, place.column, place.end_column) == (3, 3, 5, 8)
    assert place_of(Span(source, 4, 4), Cause("not-found", "", word="gti")).column == 0
    assert place_of(Span(source, 5, 5), Cause("not-found", "", word="gti")).column == 0
    assert place_of(Span(source, 2, 3), Cause("exit", "")) == Span(source, 2, 3)


@pytest.mark.parametrize("line", ["cannot " + "a " * 100_000, "x" * 200_000, "'" * 100_000, "/bin/sh: " * 20_000, "cannot " * 30_000])
def test_hostile_output_is_looked_at_and_left(line: str) -> None:
    assert find_clue("\n".join([line] * 20)) is None
