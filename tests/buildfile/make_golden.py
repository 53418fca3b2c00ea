"""Makes the golden Buildfiles named ``made-*``: varied in what they build and in how they are written, always the same for a seed.

    python tests/buildfile/make_golden.py

What the official parser of the test reads otherwise than today's BuildKit is left out: text after a JSON form, flags in ONBUILD,
flags that are not ASCII.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

SEED = 20260
COUNT = 240

BASES = (
    "alpine",
    "alpine:3.20",
    "debian:bookworm-slim",
    "golang:1.22",
    "node:20-alpine",
    "python:3.12",
    "rust:1",
    "scratch",
    "busybox:musl",
)
BASES += ("ghcr.io/org/base:v1.2", "localhost:5000/a/b:c", "alpine@sha256:" + "0a" * 32, "${BASE}", "$REGISTRY/app:${TAG:-latest}")
STAGES = ("build", "deps", "base", "test-1", "final.stage", "a_b", "Prod", "runtime")
PATHS = ("/app", "/usr/src/app", "/srv/$NAME", "./relative", "/with-dash_and.dots", "${HOME}/x", "/", "..", "/a//b/")
FILES = ("package.json", "*.py", "src/", ".", "go.[ms]*", "requirements.txt", "a?c", "conf.d/*.conf", "./bin", "$ARTIFACT", "été.txt")
COMMANDS = (
    "apt-get update && apt-get install -y --no-install-recommends curl ca-certificates",
    "make -j$(nproc) all",
    "npm ci --omit=dev",
    "pip install --no-cache-dir -r requirements.txt",
    "go build -o /out/app ./cmd/app",
    'set -eux; for f in *.txt; do cat "$f"; done',
    'echo "it\'s" \'a "quoted" word\' \\$HOME `date`',
    "if [ -f x ]; then rm x; fi # not a comment",
    "printf '%s\\n' a b | sort -u > /tmp/x || true",
    "test 1 -lt 2 && echo ${VAR:-default} ${VAR%.*} $((1 << 3))",
    "cargo build --release --locked",
    "adduser -D -u 1000 app",
    "[ -d /x ] || mkdir /x",
    "echo 数据 ünïcode",
)
VALUES = (
    "1",
    '"a b"',
    "'single $q'",
    "a\\ b",
    '"nested \\"q\\""',
    "${OTHER:-x}",
    "$PATH:/opt/bin",
    "",
    '""',
    "a=b=c",
    "x#y",
    "é",
    "'it'\"'\"'s'",
)
NAMES = (
    "A",
    "PATH",
    "NODE_ENV",
    "lower",
    "MiXed_1",
    "_x",
    "GOFLAGS",
    "DEBIAN_FRONTEND",
    "org.opencontainers.image.title",
    "com.example.a-b",
)
WORDS = ("/bin/sh", "-c", 'exec "$@"', "app", "--port=80", "", "a b", "tab\there", "é", "back\\slash")
DELIMITERS = ("EOF", "E", "end_of_it", "a.b", "FILE1", "SCRIPT")
BODIES = ("#!/bin/sh\necho hi\n", "", "[section]\nkey = $value\n", "\tindented\n\t\ttwice\n", "FROM not-an-instruction\n# nor a comment\n")
BODIES += ("back\\\\slash \\\ntrailing \\\n", "'quotes' \"of\" all `kinds`\n", "\n\nblank lines\n\n")


class Maker:
    """One Buildfile, line by line."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.escape = "`" if self.rng.random() < 0.12 else "\\"
        self.casing: Callable[[str], str] = self.rng.choice([str.upper, str.upper, str.upper, str.lower, str.title, self.mixed])
        self.stages: list[str] = []
        self.lines: list[str] = []

    def pick(self, options: tuple[str, ...]) -> str:
        return self.rng.choice(options)

    def mixed(self, word: str) -> str:
        return "".join(self.rng.choice((c.lower(), c.upper())) for c in word)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def json(self, words: list[str]) -> str:
        text = json.dumps(words, ensure_ascii=self.chance(0.5))
        return text.replace(", ", self.pick((", ", ",", " ,\t"))).replace("[", self.pick(("[", "[ ")), 1)

    def several(self, options: tuple[str, ...], most: int = 3) -> list[str]:
        return self.rng.sample(options, self.rng.randint(1, most))

    def text(self) -> bytes:
        rng = self.rng
        head = [f"# {self.mixed('escape')} = `"] if self.escape == "`" else []
        if self.chance(0.3):
            head.insert(
                0,
                self.pick(
                    ("# syntax=docker/dockerfile:1", "#syntax = docker/dockerfile:1.7-labs", "# Syntax=docker.io/docker/dockerfile:1")
                ),
            )
        if self.chance(0.15):
            head += [self.pick(("# check=skip=all", "#check=skip=StageNameCasing,JSONArgsRecommended;error=true")), ""]
        for _ in range(rng.randint(0, 2)):
            self.instruction("ARG", self.arg())
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            self.stage()
        end = "\r\n" if self.chance(0.15) else "\n"
        lines = head + ([""] if head and self.chance(0.6) else []) + self.lines
        text = end.join(line.replace("\n", end) for line in lines) + (end if self.chance(0.9) else "")
        return (b"\xef\xbb\xbf" if self.chance(0.08) else b"") + text.encode()

    def stage(self) -> None:
        image = self.pick((*BASES, *self.stages))
        name = self.pick(STAGES)
        flags = self.pick(("--platform=$BUILDPLATFORM ", "--platform=linux/arm64/v8 ")) if self.chance(0.15) else ""
        alias = f" {self.mixed('as')} {name}" if name not in self.stages and self.chance(0.5) else ""
        if alias:
            self.stages.append(name)
        if self.lines and self.chance(0.8):
            self.lines.append("")
        self.instruction("FROM", f"{flags}{image}{alias}")
        makers = (self.run, self.run, self.copy, self.copy, self.env, self.label, self.arg_line, self.workdir, self.user, self.expose)
        makers += (self.cmd, self.entrypoint, self.volume, self.healthcheck, self.shell, self.stopsignal, self.onbuild, self.maintainer)
        makers += (self.heredoc, self.heredoc, self.add)
        for _ in range(self.rng.randint(1, 7)):
            self.rng.choice(makers)()

    def instruction(self, name: str, arguments: str, heredocs: str = "") -> None:
        for _ in range(self.rng.choice((0, 0, 0, 0, 1, 2))):
            self.lines.append(self.pick(("# a comment", "#", "", "  # indented", "# check=skip=JSONArgsRecommended", "\t")))
        indent = self.pick(("  ", "\t")) if self.chance(0.08) else ""
        line = f"{indent}{self.casing(name)}{self.pick((' ', ' ', ' ', '  ', chr(9)))}{arguments}".rstrip()
        if not heredocs and self.chance(0.3):
            line = self.continued(line)
        trail = self.pick((" ", "\t")) if self.chance(0.05) and not line.endswith(self.escape) else ""
        self.lines.append(line + trail + heredocs)

    def continued(self, line: str) -> str:
        """The line, broken at one or two blanks of its arguments."""
        places = [index for index, c in enumerate(line) if c == " " and 0 < index < len(line) - 1 and line[index - 1] not in "\\`\n "]
        for place in sorted(self.rng.sample(places, min(len(places), self.rng.randint(1, 2))), reverse=True):
            between = self.pick(("", "", "", "# comment inside\n", "\n", "  # another\n"))
            indent = self.pick(("    ", "\t", " "))
            line = f"{line[:place]} {self.escape}{self.pick(('', '', ' '))}\n{between}{indent}{line[place + 1 :]}"
        return line

    def value(self) -> str:
        return self.pick(VALUES).replace("\\", self.escape)

    def arg(self) -> str:
        return " ".join(name if self.chance(0.4) else f"{name}={self.value()}" for name in self.several(NAMES[:8], 2))

    def arg_line(self) -> None:
        self.instruction("ARG", self.arg())

    def env(self) -> None:
        if self.chance(0.25):
            self.instruction("ENV", f"{self.pick(NAMES[:8])} {self.pick(('some words', 'one', 'a=b c', '  spaced  out'))}")
        else:
            self.instruction("ENV", " ".join(f"{name}={self.value()}" for name in self.several(NAMES[:8])))

    def label(self) -> None:
        if self.chance(0.15):
            self.instruction("LABEL", f"{self.pick(NAMES)} {self.pick(('the rest of it', 'x'))}")
        else:
            self.instruction("LABEL", " ".join(f"{name}={self.value()}" for name in self.several(NAMES)))

    def run(self) -> None:
        flags = []
        if self.chance(0.25):
            flags.append(self.pick(("--mount=type=cache,target=/root/.cache", "--mount=type=secret,id=key,required", "--network=none")))
        if self.chance(0.1):
            flags.append(
                self.pick(("--mount=type=bind,from=build,source=/a,target=/b,rw", "--mount=type=tmpfs,target=/t", "--mount=type=ssh"))
            )
        command = self.json(self.several(WORDS)) if self.chance(0.2) else " && ".join(self.several(COMMANDS, 2))
        self.instruction("RUN", " ".join([*dict.fromkeys(flags), command]))

    def sources(self) -> str:
        if self.chance(0.2):
            return self.json([*self.several(FILES), self.pick(PATHS)])
        return " ".join([*self.several(FILES), self.pick(PATHS)])

    def copy(self) -> None:
        flags = [
            flag
            for flag in ("--chown=app:app", "--chmod=0755", "--link", f"--from={self.pick((*self.stages, 'alpine', '0'))}")
            if self.chance(0.15)
        ]
        self.instruction("COPY", " ".join([*flags, self.sources()]))

    def add(self) -> None:
        self.instruction(
            "ADD",
            self.pick(
                ("https://example.com/a.tar.gz /tmp/", "a.tar.xz /", "--checksum=sha256:" + "00" * 32 + " https://h/x /x", self.sources())
            ),
        )

    def heredoc(self) -> None:
        names = self.several(DELIMITERS, 2)
        openers, bodies = [], []
        for name in names:
            dash = self.pick(("", "", "-"))
            opener = name if self.chance(0.6) else self.pick((f"'{name}'", f'"{name}"'))
            openers.append(f"{self.pick(('', '', '', '3'))}<<{dash}{opener}")
            body = self.pick(BODIES)
            bodies.append(f"\n{body}{self.pick(('', chr(9))) if dash else ''}{name}")
        if self.chance(0.5):
            name = self.pick(("COPY", "ADD"))
            arguments = " ".join([*openers, *(self.several(FILES, 1) if self.chance(0.3) else []), "/dest/"])
        else:
            name = "RUN"
            before, after = self.pick((("", ""), ("cat ", ""), ("", " | sh"), ("python3 ", " > /out"), ("", " sh -e")))
            arguments = f"{before}{' '.join(openers)}{after}"
        if self.chance(0.15):
            self.instruction("ONBUILD", f"{name} {arguments}", "".join(bodies))
        else:
            self.instruction(name, arguments, "".join(bodies))

    def workdir(self) -> None:
        self.instruction("WORKDIR", self.pick(PATHS))

    def user(self) -> None:
        self.instruction("USER", self.pick(("root", "1000", "app:app", "1000:0", "${UID:-1}:${GID}", "nobody")))

    def expose(self) -> None:
        self.instruction(
            "EXPOSE", " ".join(self.several(("80", "443/tcp", "53/udp", "8000-8010", "$PORT", "${P:-9}/sctp", "7000-7001/udp")))
        )

    def cmd(self) -> None:
        self.instruction("CMD", self.json(self.several(WORDS)) if self.chance(0.6) else self.pick(COMMANDS))

    def entrypoint(self) -> None:
        self.instruction("ENTRYPOINT", self.json(self.several(WORDS)) if self.chance(0.6) else self.pick(COMMANDS))

    def volume(self) -> None:
        self.instruction("VOLUME", self.json(self.several(("/data", "/var/lib/x", "/$V"), 2)) if self.chance(0.5) else "/data /var/log")

    def healthcheck(self) -> None:
        flags = [
            f
            for f in ("--interval=30s", "--timeout=1m30s", "--start-period=500ms", "--start-interval=2s", "--retries=3")
            if self.chance(0.3)
        ]
        command = self.json(["curl", "-f", "http://localhost/"]) if self.chance(0.5) else "curl -f http://localhost/ || exit 1"
        self.instruction("HEALTHCHECK", "NONE" if self.chance(0.15) else " ".join([*flags, "CMD", command]))

    def shell(self) -> None:
        self.instruction("SHELL", self.json(list(self.rng.choice((["/bin/bash", "-o", "pipefail", "-c"], ["powershell", "-Command"])))))

    def stopsignal(self) -> None:
        self.instruction("STOPSIGNAL", self.pick(("SIGTERM", "9", "SIGRTMIN+3", "$SIG", "sigquit")))

    def onbuild(self) -> None:
        trigger = self.pick(
            ("RUN make", "COPY . /src", "ADD a /b", "ENV a=b", 'CMD ["x"]', "WORKDIR /x", "USER app", "LABEL a=b", "EXPOSE 80", "ARG v=1")
        )
        self.instruction("ONBUILD", trigger)

    def maintainer(self) -> None:
        self.instruction("MAINTAINER", self.pick(("A Name <a@b.example>", "just one", "ünï")))


def main() -> None:
    place = Path(__file__).parent / "golden"
    for number in range(COUNT):
        (place / f"made-{number:03}").write_bytes(Maker(SEED * 1000 + number).text())


if __name__ == "__main__":
    main()
