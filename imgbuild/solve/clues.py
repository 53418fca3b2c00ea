"""What the last lines of a failed step's output speak of: a program, a library, a host, a file. Pure; what is made of it is in `causes`.

A rule is a sentence of a shell, a loader or a C library, as it stands in a line of output. What is said only now and then of what really
ended a step counts only near the end.
"""

from __future__ import annotations

from imgbuild.patterns import IGNORECASE, pattern
from imgbuild.values import dataclass

_NEAR_THE_END = 5
_LONGEST_QUOTE = 200
_LONGEST_LINE = 400
_QUOTES = "'\"`‘’“”"


@dataclass(frozen=True, slots=True)
class Clue:
    """`kind` says what a line is about, `word` names the thing, as the line has it; `line` is the line itself, `last` whether it is the
    output's last."""

    kind: str
    word: str
    line: str
    last: bool = False


_W = r"(?P<word>[^\s:]+)"
_Q = rf"[{_QUOTES}]?(?P<word>[^{_QUOTES}:]+?)[{_QUOTES}]?"

_RULES = tuple(
    (kind, near, pattern(text, IGNORECASE))
    for kind, near, text in (
        ("library", False, r"error while loading shared libraries: (?P<word>[^\s:]+): cannot open shared object"),
        ("library", False, r"Error loading shared library (?P<word>[^\s:]+): No such file"),
        ("c-library", False, r"version [`'](?P<word>GLIBC(?:XX)?_[\w.]+)' not found"),
        ("c-library", False, r"Error relocating \S+ (?P<word>\w+): symbol not found"),
        ("interpreter", False, rf"(?:^|: ){_W}: bad interpreter: No such file"),
        ("interpreter", False, rf"(?:^|: ){_W}: cannot execute: required file not found"),
        ("format", False, rf"(?:^|: ){_W}: (?:cannot execute binary file|Exec format error)"),
        ("format", False, rf"exec (?:of )?{_Q}(?: failed)?: Exec format error"),
        ("format", False, rf"^{_W}: (?:line )?\d+: \S*\x7f?ELF\S*: not found"),
        ("inotify", False, r"(?P<word>inotify\w*).*(?:No space left on device|Too many open files)"),
        ("inotify", False, r"(?P<word>System limit for number of file watchers reached)"),
        ("quota", False, r"(?P<word>Disk quota exceeded)"),
        ("space", False, rf"(?:cannot (?:create|touch|write to)\w*|writing|opening|of) {_Q}: No space left on device"),
        ("space", False, rf"(?:^|: ){_W}: No space left on device"),
        ("space", False, r"(?P<word>No space left on device)"),
        ("heap", False, r"(?P<word>JavaScript heap out of memory|java\.lang\.OutOfMemoryError|virtual memory exhausted)"),
        ("heap", False, r"(?P<word>std::bad_alloc|MemoryError|Cannot allocate memory)$"),
        ("fork", False, r"(?P<word>can't fork|fork: retry|fork failed|Cannot fork)"),
        ("fork", False, r"(?P<word>pthread_create failed|can't start new thread).*"),
        ("dns", False, r"Temporary failure resolving '(?P<word>[^']+)'"),
        ("dns", False, r"(?:Could not|couldn't) resolve (?:host|proxy)(?: name)?:? '?(?P<word>[^\s']+)'?"),
        ("dns", False, r"bad address '(?P<word>[^']+)'"),
        ("dns", False, r"unable to resolve host address ['‘](?P<word>[^'’]+)['’]"),
        ("dns", False, r"lookup (?P<word>[\w.-]+)(?: on \S+)?: (?:no such host|Temporary failure|server misbehaving|i/o timeout)"),
        ("dns", False, r"getaddrinfo (?:EAI_AGAIN|ENOTFOUND) (?P<word>[\w.-]+)"),
        ("dns", False, r"(?P<word>Temporary failure in name resolution|Name or service not known|Name does not resolve)"),
        ("tls", False, r"(?P<word>certificate verify failed|unable to get local issuer certificate|x509: certificate \w+.*)"),
        ("tls", False, r"(?P<word>server certificate verification failed|certificate is not trusted|SSL certificate problem.*)"),
        ("connect", False, r"(?P<word>Network is unreachable|No route to host|Connection timed out|Connection refused)"),
        ("not-found", True, rf"^(?:\S*/)?(?:ba|da|a|z|k)?sh: (?:(?:line )?\d+: )?{_W}: (?:command )?not found"),
        ("not-found", True, rf"^\S+: (?:line )?\d+: {_W}: (?:command )?not found"),
        ("not-found", True, r"^\w*sh:\d+: command not found: (?P<word>\S+)"),
        ("not-found", True, rf"(?:^|/)env: (?:can't execute )?{_Q}: No such file or directory"),
        ("not-found", True, rf"^g?make(?:\[\d+\])?: {_W}: No such file or directory"),
        ("not-found", True, rf"exec: {_Q}: (?:executable file )?not found"),
        ("not-found", True, rf"^\S*sh: (?:(?:line )?\d+: )?(?:exec: )?{_W}: No such file or directory"),
        ("read-only", True, rf"(?:cannot|can't) \w+(?: \w+)*? {_Q}: Read-only file system"),
        ("read-only", True, rf"(?:^|: ){_W}: Read-only file system"),
        ("read-only", True, r"(?P<word>Read-only file system|EROFS)"),
        ("no-call", True, r"(?P<word>Function not implemented|ENOSYS)"),
        ("not-permitted", True, r"(?P<word>.*(?:Operation not permitted|must be superuser|are you root\?).*)"),
        ("not-permitted", True, r"(?P<word>.*(?:EPERM|you must be root|not permitted).*)"),
        ("denied", True, rf"(?:cannot|can't) \w+(?: \w+)*? {_Q}: Permission denied"),
        ("denied", True, rf"(?:^|: )(?:line \d+: |\d+: )?{_W}: Permission denied"),
        ("denied", True, r"Permission denied: '(?P<word>[^']+)'"),
        ("denied", True, r"(?P<word>Permission denied|EACCES)"),
    )
)
"""The kind, whether it counts only near the end, and the sentence. The first that any line has wins, and of several lines the last."""


def find_clue(output: str, *kinds: str) -> Clue | None:
    """The clue that the output holds; one of `kinds` only, if any are given."""
    # Of a long line the end: an error's sentence stands there, and a hostile one must not take long.
    lines = [line.strip()[-_LONGEST_LINE:] for line in output.split("\n") if line.strip()][::-1]
    for kind, near, rule in _RULES:
        if kinds and kind not in kinds:
            continue
        for line in lines[:_NEAR_THE_END] if near else lines:
            found = rule.search(line)
            if found is not None:
                return Clue(kind, found["word"].strip(_QUOTES), line[:_LONGEST_QUOTE], line is lines[0])
    return None


_RIGHTS = (
    ("SYS_ADMIN", ("mount", "umount", "unshare", "pivot_root", "losetup", "setns", "swapon", "fuse", "hostname", "debootstrap", "bwrap")),
    ("NET_ADMIN", ("iptables", "ip6tables", "nft", "RTNETLINK", "ifconfig", "tc", "sysctl")),
    ("SYS_PTRACE", ("ptrace", "strace", "gdb")),
    ("SYS_MODULE", ("modprobe", "insmod", "rmmod")),
    ("SYS_TIME", ("date", "hwclock", "settimeofday", "adjtimex")),
    ("SYS_NICE", ("nice", "renice", "setpriority", "chrt", "mbind", "numactl", "set_mempolicy")),
    ("SYS_RESOURCE", ("ulimit", "setrlimit", "prlimit")),
)
_WORD = pattern(r"[A-Za-z][\w-]+")


def right_of(line: str) -> tuple[str, str]:
    """The capability that a program or call in a line is known to need and steps have not, and what in the line it is known by."""
    words = set(_WORD.findall(line))
    return next(((right, name) for right, names in _RIGHTS for name in names if name in words), ("", ""))
