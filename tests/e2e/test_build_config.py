"""What config instructions leave in an image, as `inspect`, `history` and the stored config say it."""

from __future__ import annotations

import json

import pytest

from .harness import BASE_CREATED, EPOCH, Bench


def test_every_config_instruction(bench: Bench) -> None:
    bench.build("""
FROM busybox
MAINTAINER A. Uthor <a@example.org>
ARG WHO=world
ENV GREETING="hello $WHO" PLAIN=x
ENV OLD style value
LABEL one=1 "two words"='a b' who=$WHO
LABEL one=2
EXPOSE 80 53/udp 8000-8002/TCP
VOLUME /data /more
VOLUME ["/a b", "/$PLAIN"]
USER ann:staff
WORKDIR /srv
WORKDIR app
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=1m --start-period=2s --start-interval=1s --retries=4 CMD wget -q localhost
SHELL ["/bin/ash", "-ec"]
CMD echo "$GREETING"
ENTRYPOINT ["/bin/env", "$WHO"]
ONBUILD RUN echo $WHO
""")
    config = bench.config()
    assert config["User"] == "ann:staff"
    assert config["Env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "GREETING=hello world",
        "PLAIN=x",
        "OLD=style value",
    ]
    assert config["Labels"] == {"one": "2", "two words": "a b", "who": "world"}
    assert sorted(config["ExposedPorts"]) == ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
    assert sorted(config["Volumes"]) == ["/a b", "/data", "/more", "/x"]
    assert config["WorkingDir"] == "/srv/app"
    assert config["StopSignal"] == "SIGUSR1"
    assert config["Healthcheck"] == {
        "Test": ["CMD-SHELL", "wget -q localhost"],
        "Interval": 5_000_000_000,
        "Timeout": 60_000_000_000,
        "StartPeriod": 2_000_000_000,
        "StartInterval": 1_000_000_000,
        "Retries": 4,
    }
    assert config["Shell"] == ["/bin/ash", "-ec"]
    assert config["Cmd"] == ["/bin/ash", "-ec", 'echo "$GREETING"']
    assert config["Entrypoint"] == ["/bin/env", "$WHO"]
    assert config["OnBuild"] == ["RUN echo $WHO"]
    image = bench.inspect()
    assert image["Author"] == "A. Uthor <a@example.org>"
    assert image["Created"] == BASE_CREATED
    assert (image["Os"], image["RepoTags"]) == ("linux", ["x:latest"])


def test_history_names_every_instruction_and_marks_those_without_a_layer(bench: Bench) -> None:
    bench.build("FROM busybox\nENV A=1\nRUN echo $A > /a\nCMD [\"sh\"]\nCOPY <<E /b\nb\nE\n")
    history = bench.image()["history"][1:]
    assert [entry["created_by"] for entry in history] == [
        "ENV A=1",
        "RUN /bin/sh -c echo $A > /a",
        'CMD ["sh"]',
        "COPY <<E /b",
    ]
    assert [bool(entry.get("empty_layer")) for entry in history] == [True, False, True, False]
    assert len(bench.image()["rootfs"]["diff_ids"]) == len(bench.manifest()["layers"]) == 3


def test_an_entrypoint_takes_away_the_cmd_of_the_base_but_not_its_own(bench: Bench) -> None:
    bench.build('FROM busybox AS b\nCMD ["base"]\nFROM b\nENTRYPOINT ["e"]\n')
    assert (bench.config()["Cmd"], bench.config()["Entrypoint"]) == (None, ["e"])
    bench.build('FROM busybox AS b\nCMD ["base"]\nFROM b\nCMD ["own"]\nENTRYPOINT e $HOME\n')
    assert (bench.config()["Cmd"], bench.config()["Entrypoint"]) == (["own"], ["/bin/sh", "-c", "e $HOME"])


def test_empty_cmd_and_healthcheck_none_are_kept(bench: Bench) -> None:
    bench.build('FROM busybox AS b\nCMD ["x"]\nHEALTHCHECK CMD true\nFROM b\nCMD []\nHEALTHCHECK NONE\n')
    config = bench.config()
    assert config["Cmd"] == []
    assert config["Healthcheck"] == {"Test": ["NONE"]}


def test_labels_of_the_command_line_win_and_change_no_layer(bench: Bench) -> None:
    text = "FROM busybox\nLABEL a=file b=file\nRUN echo > /x\n"
    bench.build(text)
    before = bench.manifest()["layers"]
    done = bench.build(text, "--label", "a=line", "--label", "c=", "--label", "d")
    assert bench.config()["Labels"] == {"a": "line", "b": "file", "c": "", "d": ""}
    assert bench.manifest()["layers"] == before
    assert done.steps == {"RUN echo > /x": "CACHED"}


def test_triggers_of_a_base_run_in_the_child_and_not_in_the_grandchild(bench: Bench) -> None:
    bench.write({"file": "content\n"})
    triggers = "ONBUILD ARG V=1\nONBUILD COPY file .\nONBUILD RUN echo $V > ran\nONBUILD ENV SEEN=$V\n"
    bench.build(f"FROM busybox\nWORKDIR /w\n{triggers}", "-t", "base")
    assert bench.config("base")["OnBuild"] == ["ARG V=1", "COPY file .", "RUN echo $V > ran", "ENV SEEN=$V"]
    bench.build("FROM base\nRUN cat ran > again\n", "--build-arg", "V=7")
    files = bench.files()
    assert files["w/file"].data == b"content\n"
    assert files["w/again"].data == b"7\n"
    assert bench.config()["OnBuild"] is None
    assert "SEEN=7" in bench.config()["Env"]
    done = bench.build("FROM x\nRUN true\n", "-t", "y")
    assert list(done.steps) == ["RUN true"]


def test_triggers_of_a_stage_run_in_the_stage_that_starts_from_it(bench: Bench) -> None:
    bench.build("FROM busybox AS a\nONBUILD RUN echo triggered > /t\nRUN test ! -e /t\nFROM a\nRUN cp /t /copied\n")
    assert bench.files()["copied"].data == b"triggered\n"
    assert bench.config()["OnBuild"] is None


def test_a_bad_trigger_in_a_base_is_said_with_its_base(bench: Bench) -> None:
    bench.build("FROM busybox\nONBUILD COPY nothing-here /\n", "-t", "base")
    said = bench.refused("FROM base\n", code=12)
    assert "nothing-here" in said
    assert "base" in said


def test_the_epoch_bounds_every_time(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo > /new; touch -d @1000 /old; echo $SOURCE_DATE_EPOCH > /seen\nCOPY Buildfile /b\n"
    bench.build(text, "--source-date-epoch", "1600000000")
    files = bench.files()
    assert files["new"].info.mtime == files["b"].info.mtime == 1_600_000_000
    assert files["old"].info.mtime == 1000
    assert files["seen"].data == b"1600000000\n"
    assert bench.inspect()["Created"] == "2020-09-13T12:26:40Z"
    assert not any("SOURCE_DATE_EPOCH" in entry for entry in bench.config()["Env"])
    bench.build(text, environ={"SOURCE_DATE_EPOCH": "1500000000"})
    assert bench.files()["new"].info.mtime == 1_500_000_000
    bench.build(text)
    assert bench.files()["new"].info.mtime == EPOCH


@pytest.mark.parametrize(
    "instruction", ["EXPOSE 70000", "EXPOSE x", "STOPSIGNAL SIGNOPE", "HEALTHCHECK --interval=1us CMD x", "ENV a", "LABEL =x"]
)
def test_config_values_that_make_no_sense(shared: Bench, instruction: str) -> None:
    said = shared.refused(f"FROM busybox\n{instruction}\n", code=10)
    assert "Buildfile:2" in said
    assert "^" in said


def test_an_image_from_scratch_has_only_what_was_put_into_it(bench: Bench) -> None:
    bench.write({"app": "binary"})
    bench.build('FROM scratch\nCOPY app /app\nENTRYPOINT ["/app"]\n')
    assert set(bench.files()) - {"."} == {"app"}
    image = bench.image()
    assert image["config"]["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert len(image["rootfs"]["diff_ids"]) == 1


def test_an_image_without_layers(bench: Bench) -> None:
    bench.build("FROM scratch\nLABEL empty=yes\n")
    assert bench.manifest()["layers"] == []
    assert bench.config()["Labels"] == {"empty": "yes"}
    assert json.loads(bench.run("inspect", "x").out)[0]["RootFS"]["Layers"] in ([], None)
    bench.assert_whole()
