from __future__ import annotations

import pytest

from imgbuild.buildfile.flags import KNOWN

from .faults import fault, marked, only

ALL = ["ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL"]
ALL += ["USER", "VOLUME", "WORKDIR"]


@pytest.mark.parametrize(
    "flags",
    [
        "RUN --mount=type=cache,target=/a --mount=target=/b x",
        "RUN --network=none --security=insecure --device=a --device=b,required x",
        "RUN --memory=512m --memory-swap=-1 --cpus=.5 --pids=10 --timeout=1h --idle-timeout=30s --retry=0 x",
        "RUN --memory=$M --cpus=${C} --timeout=$T x",
        "RUN --io-weight=100 --io-read-bps=1m --io-write-bps=1m --io-read-iops=9 --io-write-iops=9 x",
        "RUN --on-failure=save=/reports --on-failure=save=/log x",
        "TEST --mount=target=/b --network=none --memory=1g --retry=2 --on-failure=save=/r x",
        "COPY --from=a --chown=b:c --chmod=u=rwx --link --parents --exclude=d --exclude=e f g",
        "COPY --link=false --parents=TRUE a b",
        "COPY --chown= --from='' a b",
        "ADD --chown=a --chmod=b --link --keep-git-dir=true --checksum=c --exclude=d --unpack=false e f",
        "HEALTHCHECK --interval=1s --timeout=1s --start-period=0 --start-interval=1s --retries=+3 CMD x",
        "HEALTHCHECK --interval= CMD x",
    ],
)
def test_accepted(flags: str) -> None:
    assert only(flags).flags


@pytest.mark.parametrize(
    ("text", "caret", "hint"),
    [
        ("RUN --mout=x y", "--mout=x", "did you mean --mount?"),
        ("COPY --form=x y z", "--form=x", "did you mean --from?"),
        ("COPY --checksum=x y z", "--checksum=x", None),
        ("ADD --parents a b", "--parents", None),
        ("RUN --mount type=cache x", "--mount", "write --mount=VALUE, without a space"),
        ("COPY --from a b", "--from", None),
        ("COPY --from=a --from=b c d", "--from=b", None),
        ("COPY --link --link a b", "--link", None),
        ("COPY --link=yes a b", "--link=yes", None),
        ("COPY --link= a b", "--link=", None),
        ("RUN --network=hots x", "--network=hots", "did you mean host?"),
        ("RUN --network=$x y", "--network=$x", None),
        ("RUN --security=none x", "--security=none", None),
        ("RUN --memory=lots x", "--memory=lots", None),
        ("RUN --cpus=0 x", "--cpus=0", None),
        ("RUN --pids=-1 x", "--pids=-1", None),
        ("RUN --timeout=5 x", "--timeout=5", None),
        ("RUN --timeout=-5s x", "--timeout=-5s", None),
        ("RUN --retry=x y", "--retry=x", None),
        ("RUN --on-failure=keep x", "--on-failure=keep", None),
        ("RUN --=x y", "--=x", None),
    ],
)
def test_refused(text: str, caret: str, hint: str | None) -> None:
    error = fault(f"FROM x\n{text}")
    assert marked(error) == caret
    assert hint is None or error.hint == hint


@pytest.mark.parametrize("keyword", ALL)
def test_unknown_everywhere(keyword: str) -> None:
    error = fault(f"FROM x\n{keyword} --bogus x")
    assert error.message == f"{keyword} has no flag --bogus"
    if keyword not in KNOWN:
        assert "write --" in (error.hint or "")


def test_quotes_and_escapes_in_flags() -> None:
    copy = only('COPY --from="a b" --chown=\'c"d\'e\\ f --exclude=\\"g\\" x y')
    assert [flag.value for flag in copy.flags] == ["a b", 'c"de f', '"g"']
    assert only("COPY '--from=a' b c").sources[0].text == "'--from=a'"
    assert only("COPY --from=a=b c d").flags[0].value == "a=b"


def test_flags_over_lines() -> None:
    run = only("RUN --mount=type=cache,\\\ntarget=/x \\\n  --network=none \\\n  a")
    assert run.flag("mount").value == "type=cache,target=/x"
    assert str(run.flag("network").span) == "Buildfile:4:3"
    assert run.command.line == "a"


def test_two_dashes_end_flags() -> None:
    assert only("COPY -- --from=a b").sources[0].text == "--from=a"
    assert only("COPY --link -- --from=a b").sources[0].text == "--from=a"
    assert only("COPY -x b").sources[0].text == "-x"
