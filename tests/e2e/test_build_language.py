"""The format and the instructions of the language as a whole build sees them: accepted, at the edge, refused."""

from __future__ import annotations

import pytest

from .harness import Bench


def contents(bench: Bench) -> dict[str, str]:
    files = bench.files().items()
    return {name: entry.data.decode() for name, entry in files if entry.info.isreg() and not name.startswith(("bin/", "etc/"))}


def test_marks_line_ends_and_cases(bench: Bench) -> None:
    head = "\ufeff# escape=`\r\n# SYNTAX = docker/dockerfile:1\r\n\r\nfrom busybox\r\n"
    run = "Run echo one > /a && `\r\n  # comment\r\n\r\n  echo two >> /a\r\n"
    bench.build((head + run).encode() + b'lABEL a=`$b c=\\d\r\ncopy <<E /e\r\nkept\r\nE\r\nCMD ["x"]')
    assert contents(bench)["a"] == "one\ntwo\n"
    assert contents(bench)["e"] == "kept\r\n"
    config = bench.config()
    assert config["Labels"] == {"a": "$b", "c": "\\d"}
    assert config["Cmd"] == ["x"]


def test_heredocs_of_run(bench: Bench) -> None:
    bench.build(r"""
FROM busybox
ARG v=value
RUN <<E
echo "$v" > /plain
cd /tmp
pwd >> /plain
E
RUN <<-'E'
	echo '	'"$v" > /tabs
	E
RUN <<E
#!/bin/sh -e
echo $0 > /script
E
RUN <<-E
	#!/bin/sh
	echo tabs >> /script
	E
RUN { cat; cat <&3; } <<A 3<<'B' > /several
one $v
A
two $v
B
RUN <<E sh
echo piped $v > /piped
E
RUN cat <<E | tr a-z A-Z > /upper; cat <<F >> /upper
up
E
low
F
RUN <<E
E
RUN echo $((1 << 3)) > /shift
""")
    made = contents(bench)
    assert made["plain"] == "value\n/tmp\n"
    assert made["tabs"] == "\tvalue\n"
    assert made["script"].splitlines()[0].endswith("/E")
    assert made["script"].splitlines()[1:] == ["tabs"]
    assert made["several"] == "one value\ntwo $v\n"
    assert made["piped"] == "piped value\n"
    assert made["upper"] == "UP\nlow\n"
    assert made["shift"] == "8\n"


def test_heredocs_of_copy_and_add(bench: Bench) -> None:
    bench.write({"file": "file"})
    bench.build(r"""
FROM busybox
ENV v=value
COPY <<one <<-'two' file <<"th ree" 5<<four /d/
1 $v "${v:-x}" \$v
one
	2 $v
	two
3 $v
th ree
four
ADD --chmod=640 <<E /added
${none-nothing}
E
COPY <<$v /named/
text
$v
""")
    made = contents(bench)
    assert made["d/one"] == '1 value "value" $v\n'
    assert made["d/two"] == "2 $v\n"
    assert made["d/th ree"] == "3 $v\n"
    assert made["d/four"] == ""
    assert made["d/file"] == "file"
    assert made["added"] == "nothing\n"
    assert made["named/$v"] == "text\n"
    assert bench.files()["added"].info.mode == 0o640


def test_heredocs_of_triggers(bench: Bench) -> None:
    triggers = "ONBUILD RUN <<E\necho $v > /run\nE\nONBUILD COPY <<-'A' <<B /d/\n\ta $v\n\tA\nb $v\nB\n"
    bench.build(f"FROM busybox\nENV v=base\n{triggers}", "-t", "parent")
    assert bench.config()["OnBuild"] == ["RUN <<E\necho $v > /run\nE", "COPY <<-'A' <<B /d/\n\ta $v\nA\nb $v\nB"]
    bench.build("FROM parent\nENV v=child\n")
    made = contents(bench)
    assert (made["run"], made["d/A"], made["d/B"]) == ("base\n", "a $v\n", "b base\n")
    assert not bench.config().get("OnBuild")


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("RUN cat <<E\nx\n", "the heredoc 'E' does not end", "<<E"),
        ("RUN <<E\n  E\n", "the heredoc 'E' does not end", "<<E"),
        ("COPY x <<E\nE\n", "a heredoc can't be the destination", "<<E"),
        ("COPY <<E\nE\n", "COPY needs a source and a destination", "<<E"),
        ("COPY <<E /x\n${v:?no value}\nE\n", "v: no value", "<<E"),
        ("ONBUILD RUN <<E\nx\n", "the heredoc 'E' does not end", "<<E"),
    ],
)
def test_heredocs_refused(shared: Bench, text: str, message: str, caret: str) -> None:
    said = shared.refused(f"FROM busybox\n{text}", code=10)
    assert f"{message}\n" in said
    assert f"{'^' * len(caret)}\n" in said


def test_where_variables_are_replaced_and_where_not(bench: Bench) -> None:
    bench.write({"a.txt": "a"})
    bench.build(r"""
ARG image=busybox
FROM ${image#x} AS first
ENV v=a w="two words" PATHS=/x/y/z.tar.gz
COPY ["$v.txt", "/json-$v"]
VOLUME ["/vol $v"]
EXPOSE $none ${v:+80} ${v/a/81}/udp
LABEL "$v"=1 x.${v}='$v' y="$w" z=$w
LABEL cut=${PATHS##*/} dir=${PATHS%/*} base=${PATHS%%.*} first=${PATHS#*/} all=${PATHS//\//_} one=${PATHS/z.*/$v}
LABEL nested=${none:-${also:-"${v}b"}} alternative=${v:+${w}} plus="${none+x}" dash="${v-x}" quest=${v?no}
RUN ["/bin/sh", "-c", "echo '$v' > /exec"]
RUN echo '${v}' > /shell; echo ${v} >> /shell
CMD ["$v"]
ENTRYPOINT ["$v", "\u0024v"]
HEALTHCHECK CMD $v
ONBUILD LABEL v=$v
SHELL ["/bin/$v", "-c"]
""")
    made, config = contents(bench), bench.config()
    assert made["json-a"] == "a"
    assert made["exec"] == "$v\n"
    assert made["shell"] == "${v}\na\n"
    assert list(config["Volumes"]) == ["/vol a"]
    assert sorted(config["ExposedPorts"]) == ["80/tcp", "81/udp"]
    assert (config["Cmd"] or [], config["Entrypoint"], config["Shell"]) == (["$v"], ["$v", "$v"], ["/bin/$v", "-c"])
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "$v"]}
    assert config["OnBuild"] == ["LABEL v=$v"]
    labels = config["Labels"]
    assert {name: labels[name] for name in ("a", "x.a", "y", "z")} == {"a": "1", "x.a": "$v", "y": "two words", "z": "two words"}
    assert (labels["cut"], labels["dir"], labels["base"], labels["first"]) == ("z.tar.gz", "/x/y", "/x/y/z", "x/y/z.tar.gz")
    assert (labels["all"], labels["one"]) == ("_x_y_z.tar.gz", "/x/y/a")
    assert (labels["nested"], labels["alternative"], labels["plus"]) == ("ab", "two words", "")
    assert (labels["dash"], labels["quest"]) == ("a", "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENV a=${b?}", "b: is not set"),
        ('ENV a="${b:?say $PATH}"', "b: say /usr"),
        ("ENV a=${b^^}", "an unknown modifier '^'"),
        ("ENV a=${}", "a variable has no name"),
        ("ENV a=${b:-'}", "a single quote is not closed"),
        ("ENV a=${b/c}", "a '/' is missing"),
        ("LABEL a=${b#\\c}", "a bad pattern"),
        ("WORKDIR '", "a single quote is not closed"),
        ("COPY --chown=${u:?who} x /", "u: who"),
        ("EXPOSE ${p:?which}", "p: which"),
    ],
)
def test_variables_refused(shared: Bench, text: str, message: str) -> None:
    said = shared.refused(f"FROM busybox\n{text}\n", code=10)
    assert message in said
    assert "Buildfile:2" in said


def test_args_of_one_line_see_each_other(bench: Bench) -> None:
    text = "ARG a=1 b=${a}2\nFROM busybox\nARG b c=${b}3 d=${c}4 e\nRUN echo $b $c $d ${e-unset} > /seen\n"
    bench.build(text, "--build-arg", "c=given")
    assert contents(bench)["seen"] == "12 given given4 unset\n"


def test_the_later_of_arg_and_env_wins(bench: Bench) -> None:
    text = "FROM busybox\nARG x=arg\nENV x=env\nARG y\nENV y=${y:-default}\nARG z=${x}\nRUN echo $x $y $z > /seen\n"
    bench.build(text, "--build-arg", "y=given")
    assert contents(bench)["seen"] == "env given env\n"


def test_args_of_the_builder(bench: Bench) -> None:
    text = "FROM busybox\nARG SOURCE_DATE_EPOCH\nLABEL at=$SOURCE_DATE_EPOCH\nRUN --mount=type=cache,target=/c echo >> /c/n; cp /c/n /n\n"
    bench.build(text, environ={"SOURCE_DATE_EPOCH": "1600000000"})
    assert bench.config()["Labels"] == {"at": "1600000000"}
    bench.build(text, "--build-arg", "SOURCE_DATE_EPOCH=1500000000", "--no-cache")
    assert bench.config()["Labels"] == {"at": "1500000000"}
    assert contents(bench)["n"] == "\n\n"
    bench.build(text, "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=other")
    assert contents(bench)["n"] == "\n"
    done = bench.build(text, "--build-arg", "BUILDKIT_NONSENSE=1", "--build-arg", "BUILDKIT_INLINE_CACHE=1")
    bench.build("FROM busybox\nRUN cat /proc/sys/kernel/hostname > /n\n", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=builder")
    assert contents(bench)["n"] == "builder\n"
    assert "'a b'" in bench.refused(text, "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=a b", code=2)
    notices = [line for line in done.err.splitlines() if line.startswith("notice:")]
    assert notices == ["notice: no ARG declares what --build-arg gives: BUILDKIT_NONSENSE"]
    assert "SOURCE_DATE_EPOCH=today" in bench.refused(text, "--build-arg", "SOURCE_DATE_EPOCH=today", code=2)


@pytest.mark.parametrize(
    ("written", "kept"),
    [("SIGTERM", "SIGTERM"), ("sigint", "sigint"), ("QUIT", "QUIT"), ("9", "9"), ("SIGRTMIN+3", "SIGRTMIN+3"), ("rtmax-14", "rtmax-14")],
)
def test_stopsignal(bench: Bench, written: str, kept: str) -> None:
    bench.build(f"FROM scratch\nARG s={written}\nSTOPSIGNAL $s\n")
    assert bench.config()["StopSignal"] == kept


@pytest.mark.parametrize("signal", ["0", "65", "-9", "SIGNOPE", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX+1", "$none", "SIG TERM"])
def test_stopsignal_refused(shared: Bench, signal: str) -> None:
    said = shared.refused(f"FROM scratch\nSTOPSIGNAL {signal}\n", code=10)
    assert "is not a signal" in said
    assert "Buildfile:2:12" in said


def test_expose(bench: Bench) -> None:
    bench.build("FROM scratch\nARG p=9000-9001\nEXPOSE 80 80/tcp 53/UDP 1/sctp 5-5 7/ $p/udp\nEXPOSE 127.0.0.1:8080:81/tcp\n")
    ports = "1/sctp 5/tcp 53/udp 7/tcp 80/tcp 81/tcp 9000/udp 9001/udp"
    assert sorted(bench.config()["ExposedPorts"]) == ports.split()


@pytest.mark.parametrize("port", ["65536", "90-80", "80/icmp", "http", "1-70000", "-1", "80-", "/tcp", "x:80:80"])
def test_expose_refused(shared: Bench, port: str) -> None:
    assert "Buildfile:2:8" in shared.refused(f"FROM scratch\nEXPOSE {port}\n", code=10)


def test_users_and_their_groups(bench: Bench) -> None:
    users = ("root", "ann", "ann:staff", "ann:1234", "1000", "4711", "4711:50", "4711:staff", "$none")
    lines = "".join(f"USER {user}\nRUN echo $(id -u):$(id -g):$(id -G):$HOME >> /tmp/ids\n" for user in users)
    bench.build(f"FROM busybox\nRUN mkdir -p /tmp && touch /tmp/ids && chmod 666 /tmp/ids\n{lines}")
    assert contents(bench)["tmp/ids"].splitlines() == [
        "0:0:0:/root",
        "1000:1001:1001 50:/home/ann",
        "1000:50:50:/home/ann",
        "1000:1234:1234:/home/ann",
        "1000:1001:1001 50:/home/ann",
        "4711:0:0:/",
        "4711:50:50:/",
        "4711:50:50:/",
        "0:0:0:/root",
    ]


@pytest.mark.parametrize("user", ["nobody-here", "ann:nobody-here", "ann:staff:x", "-1"])
def test_users_refused(shared: Bench, user: str) -> None:
    said = shared.refused(f"FROM busybox\nUSER {user}\nRUN true\n", code=10)
    assert "Buildfile:" in said


def test_shell_is_for_what_follows_and_is_inherited(bench: Bench) -> None:
    bench.build("""
FROM busybox AS one
RUN echo $0 > /before
SHELL ["/bin/sh", "-exc"]
RUN echo $- > /after
CMD a b
HEALTHCHECK CMD c d
FROM one
ENTRYPOINT e "f"
RUN ["/bin/sh", "-c", "echo $- > /exec"]
RUN <<E
echo $- > /heredoc
E
""")
    made, config = contents(bench), bench.config()
    assert made["before"] == "/bin/sh\n"
    assert "x" in made["after"]
    assert "x" in made["heredoc"]
    assert "x" not in made["exec"]
    assert config["Shell"] == ["/bin/sh", "-exc"]
    assert config["Entrypoint"] == ["/bin/sh", "-exc", 'e "f"']
    assert not config["Cmd"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "c d"]


@pytest.mark.parametrize("text", ["SHELL /bin/sh", "SHELL []", "SHELL", 'SHELL ["a", 1]', 'SHELL ["a" "b"]'])
def test_shell_refused(shared: Bench, text: str) -> None:
    assert "Buildfile:2" in shared.refused(f"FROM scratch\n{text}\n", code=10)


def test_healthcheck(bench: Bench) -> None:
    bench.build('FROM scratch\nHEALTHCHECK --interval=0s --start-interval=1.5s --retries=0 CMD ["a", "b"]\n')
    assert bench.config()["Healthcheck"] == {"Test": ["CMD", "a", "b"], "StartInterval": 1_500_000_000}
    bench.build("FROM scratch\nHEALTHCHECK --timeout=1h2m3s4ms cmd a\nHEALTHCHECK none\n")
    assert bench.config()["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CMD",
        "CMD []",
        "NONE x",
        "TRY x",
        "--interval=1 CMD x",
        "--start-interval=1us CMD x",
        "--retries=-1 CMD x",
        "--retries=x CMD x",
        "--every=1s CMD x",
    ],
)
def test_healthcheck_refused(shared: Bench, text: str) -> None:
    assert "Buildfile:2" in shared.refused(f"FROM scratch\nHEALTHCHECK {text}\n", code=10)


def test_volumes(bench: Bench) -> None:
    bench.build('FROM busybox\nVOLUME /a b "/c"\nVOLUME ["/d e"]\nRUN mkdir -p /a && echo kept > /a/file\nVOLUME /a\n')
    assert sorted(bench.config()["Volumes"]) == ["/a", "/c", "/d e", "b"]
    assert contents(bench)["a/file"] == "kept\n"


@pytest.mark.parametrize("text", ["VOLUME", "VOLUME []", 'VOLUME [""]', "VOLUME $none", 'VOLUME ["/a", 1]'])
def test_volumes_refused(shared: Bench, text: str) -> None:
    assert "Buildfile:2" in shared.refused(f"FROM scratch\n{text}\n", code=10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# escape=x\nFROM busybox\n", "can't be the escape character"),
        ("# escape=`\n# Escape=`\nFROM busybox\n", "a second 'escape' directive"),
        ("FROM busybox\nRUN\\\n", "RUN"),
        ("RUN x\nFROM busybox\n", "only ARG may stand before FROM"),
        ("FROM busybox AS 1x\n", "can't be the name of a stage"),
        ("FROM busybox x\n", "FROM takes one image"),
        ("FROM busybox\nRNU x\n", "did you mean RUN?"),
        ("# nothing\n", "has no instructions"),
        ("", "has no instructions"),
        ("FROM busybox\nRUN a\0b\n", "a NUL byte"),
        ('FROM busybox\nCOPY ["a", "/b\\u0000"]\n', "a NUL byte in a JSON form"),
        ("FROM busybox\nRUN <<E\n\0\nE\n", "a NUL byte in the command"),
        ("FROM busybox\nONBUILD ONBUILD RUN x\n", "can't be a trigger"),
        ("FROM busybox\nONBUILD FROM x\n", "can't be a trigger"),
        ("FROM busybox\nONBUILD\n", "ONBUILD needs an instruction"),
    ],
)
def test_format_refused(shared: Bench, text: str, words: str) -> None:
    said = shared.refused(text, code=10)
    assert words in said
    assert "Buildfile:" in said


def test_what_needs_windows(bench: Bench) -> None:
    text = """# escape=`
ARG OS=windows
FROM --platform=${OS}/amd64 base/nanoserver AS win
SHELL ["powershell", "-Command"]
RUN dir C:\\
FROM busybox
SHELL ["cmd", "/S", "/C"]
WORKDIR C:\\app
CMD dir
"""
    bench.build(text)
    assert bench.config()["Cmd"] == ["cmd", "/S", "/C", "dir"]
    assert bench.config()["WorkingDir"] == "/C:\\app"
    said = bench.refused(text, "--target", "win", code=11)
    assert "Buildfile:3:6: the stage win is for windows/amd64: its steps need Windows" in said
    said = bench.refused("FROM busybox\nRUN --mount=type=npipe,source=//./pipe/x,target=//./pipe/x true\n", code=10)
    assert "'npipe' is not a type of mount" in said
