"""A build fails where a secret would be in a layer, in a config, or in a record; then nothing is named, kept or sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registry_mock.client import Mock

from .harness import Bench

SECRET = "a-secret-of-some-length/0123456789"
GIVEN = ("--secret", "id=k,env=K", "--compression", "none")
MOUNT = "RUN --mount=type=secret,id=k"


def _refused(bench: Bench, text: str | None, *more: str, value: str = SECRET) -> str:
    said = bench.refused(text, *GIVEN, *more, code=1, environ={"K": value})
    assert value not in said
    return said


def _nowhere(bench: Bench, *texts: str) -> None:
    assert '"x:latest"' not in (bench.root / "index.json").read_text()
    for path in bench.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            for text in texts:
                assert text.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("mkdir /etc/app && cp /run/secrets/k /etc/app/conf", "'etc/app/conf' has the secret 'k' in it\n"),
        ("echo before $(cat /run/secrets/k) after > /f", "'f' has the secret 'k' in it\n"),
        ("base64 /run/secrets/k > /f", "'f' has the secret 'k' in it (as base64)"),
        ("(printf user:; cat /run/secrets/k) | base64 > /f", "'f' has the secret 'k' in it (as base64)"),
        ("(printf me:; cat /run/secrets/k) | base64 > /f", "'f' has the secret 'k' in it (as base64)"),
        ("xxd -p /run/secrets/k > /f", "'f' has the secret 'k' in it (as hex)"),
        ("hexdump -ve '1/1 \"%02X\"' /run/secrets/k > /f", "'f' has the secret 'k' in it (as hex)"),
        ("sed 's#/#%2F#' /run/secrets/k > /f", "'f' has the secret 'k' in it (URL-encoded)"),
        ("ln -s $(cat /run/secrets/k) /link", "'link' has the secret 'k' in its name, target or attributes\n"),
        ("head -c 3000000 /dev/zero > /big && cat /run/secrets/k >> /big", "'big' has the secret 'k' in it\n"),
    ],
)
def test_what_a_run_leaves(bench: Bench, command: str, words: str) -> None:
    text = f"FROM busybox\nRUN true\n{MOUNT} \\\n    {command}\n"
    said = _refused(bench, text)
    assert "Buildfile:3: the step's layer would hold a secret: " in said
    assert words in said
    assert "--allow secret.leak=k" in said
    _nowhere(bench, SECRET)
    assert words in _refused(bench, None)  # it is no hit
    bench.assert_whole()


def test_an_ordinary_step_that_is_given_one(bench: Bench) -> None:
    bench.build(f"FROM busybox\n{MOUNT} wc -c < /run/secrets/k > /size\nRUN echo other > /f\n", *GIVEN, environ={"K": SECRET})
    assert bench.files()["size"].data.strip() == b"34"


def test_a_file_of_several_lines(bench: Bench) -> None:
    key = "-----BEGIN KEY-----\n" + "".join(f"{'AbC1' * 14}{line:04}\n" for line in range(9)) + "-----END KEY-----\n"
    text = f"FROM busybox\n{MOUNT} sed -n 6p /run/secrets/k > /f; sed -n '3,$p' /run/secrets/k > /g\n"
    said = _refused(bench, text, value=key)
    assert "has the secret 'k' in it (a part of it)" in said
    _nowhere(bench, key.splitlines()[5])


def test_files_that_are_copied(bench: Bench) -> None:
    bench.write({"conf": f"token={SECRET}", "d/fine": "fine", f"n/{SECRET.replace('/', '-')}": "x"})
    for text, words in (
        ("FROM scratch\nCOPY conf d /x/\n", "'x/conf' has the secret 'k' in it\n"),
        ("FROM scratch\nADD --link conf /y\n", "'y' has the secret 'k' in it\n"),
        ("FROM busybox AS a\nCOPY conf /\nRUN rm /conf\nFROM scratch\nCOPY --from=a /bin/busybox /\n", "'conf' has"),
    ):
        said = _refused(bench, text)
        assert words in said
        assert "Buildfile:2: " in said
        _nowhere(bench, SECRET)
    assert "'n/***' has the secret 'k' in its name" in _refused(bench, "FROM scratch\nCOPY n /n\n", value=SECRET.replace("/", "-"))


@pytest.mark.parametrize("disabled", ["erofs", "newmount"])
def test_files_that_are_copied_elsewhere(bench: Bench, disabled: str) -> None:
    bench.write({"conf": SECRET})
    said = bench.refused("FROM scratch\nCOPY conf /\n", *GIVEN, code=1, environ={"K": SECRET, "IMGBUILD_DISABLE": disabled})
    assert "'conf' has the secret 'k' in it\n" in said
    _nowhere(bench, SECRET)


def test_what_a_later_step_takes_from_a_cache(bench: Bench) -> None:
    cache = "--mount=type=cache,target=/c"
    text = f"FROM busybox\n{MOUNT} {cache} cp /run/secrets/k /c/\nRUN {cache} cp /c/k /kept\n"
    assert "Buildfile:3: " in (said := _refused(bench, text))
    assert "'kept' has the secret 'k' in it\n" in said


def test_what_steps_above_it_did_is_not_kept(bench: Bench) -> None:
    text = f"FROM busybox\n{MOUNT} head -c 20000000 /dev/zero > /z; cat /run/secrets/k > /f\nRUN cat /f > /g\nRUN cp /g /h\n"
    assert "has the secret 'k' in it\n" in _refused(bench, text)
    _nowhere(bench, SECRET)
    bench.assert_whole()


def test_what_stands_on_it_and_was_captured_before(bench: Bench) -> None:
    text = f"FROM busybox\n{MOUNT} head -c 60000000 /dev/urandom > /z; cat /run/secrets/k > /f\nRUN echo > /g\n"
    assert "has the secret 'k' in it\n" in _refused(bench, text)
    _nowhere(bench, SECRET)
    bench.assert_whole()


def test_a_failed_step_that_stands_on_it_is_not_kept(bench: Bench) -> None:
    text = f"FROM busybox\n{MOUNT} head -c 30000000 /dev/urandom > /z; cat /run/secrets/k > /f\nRUN echo > /g; exit 3\n"
    assert "'f' has the secret 'k' in it\n" in _refused(bench, text)
    assert "no failed step is kept" in bench.run("debug", "last", "true", code=None).err
    _nowhere(bench, SECRET)
    bench.assert_whole()


def test_the_step_is_one_that_failed(bench: Bench) -> None:
    text = f"FROM busybox\n{MOUNT} cat /run/secrets/k > /f\nRUN echo > /g\n"
    _refused(bench, text)
    build = json.loads(bench.run("builds", "show", "--format", "json").out)
    step = build["steps"][0]
    assert (step["outcome"], build["performed"]) == ("failed", sum(each["outcome"] == "done" for each in build["steps"]))
    assert "'f' has the secret 'k' in it" in step["error"]["message"]
    done = bench.build(None, *GIVEN, code=1, environ={"K": SECRET})
    assert done.misses[text.splitlines()[1]] == "it failed last time"
    assert "lost" not in done.err


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("FROM busybox\nENV TOKEN=" + SECRET, (), "Buildfile:2: this instruction has the secret 'k' in it,"),
        ("FROM busybox\nARG TOKEN\nLABEL t=$TOKEN", ("--build-arg", f"TOKEN={SECRET}"), "Buildfile:2"),
        ("FROM busybox AS a\nARG TOKEN\nRUN true\nFROM scratch\nCOPY --from=a /bin /", ("--build-arg", f"TOKEN={SECRET}"), "Buildfile:2"),
        ("FROM busybox\nRUN echo " + SECRET.encode().hex(), (), "Buildfile:2: this instruction has the secret 'k' in it (as hex)"),
        ("FROM scratch\nCOPY <<EOF /f\n" + SECRET + "\nEOF", (), "Buildfile:2: this step has the secret"),
        ("FROM busybox", ("--label", f"t={SECRET}"), "the image's config has the secret"),
        ("FROM busybox", ("--annotation", f"t={SECRET}"), "an annotation has the secret"),
    ],
)
def test_what_a_build_is_told(bench: Bench, text: str, options: tuple[str, ...], words: str) -> None:
    done = bench.build(text, *GIVEN, *options, code=1, environ={"K": SECRET})
    assert words in done.err
    assert SECRET not in done.err
    assert "which would be in the image or in the build's records" in done.err
    assert done.steps == {}
    assert words in bench.run("plan", *GIVEN[:2], *options, bench.context, environ={"K": SECRET}, code=1).err
    (bench.context / "Buildfile").unlink()
    _nowhere(bench, SECRET)


def test_one_that_is_meant(bench: Bench) -> None:
    text = f"FROM busybox\n{MOUNT} cp /run/secrets/k /f\nLABEL t={SECRET}\n"
    _refused(bench, text, "--allow", "secret.leak=other")
    for allowance in ("secret.leak=k", "secret.leak"):
        done = bench.build(text, *GIVEN, "--allow", allowance, environ={"K": SECRET})
        assert bench.files()["f"].data == SECRET.encode()
    assert list(done.steps.values()) == ["CACHED"]
    said = bench.build(text, *GIVEN, code=1, environ={"K": SECRET})
    assert "this instruction has the secret 'k' in it" in said.err
    plain = text.partition("LABEL")[0]
    plan = bench.run("plan", *GIVEN[:2], "-f", "-", bench.context, environ={"K": SECRET}, stdin=plain.encode())
    assert "MISS: its layer has a secret, as it was allowed to then" in plan.out
    said = bench.build(plain, *GIVEN, code=1, environ={"K": SECRET})
    assert said.misses == {plain.splitlines()[1]: "its layer has a secret, as it was allowed to then"}
    assert "'f' has the secret 'k' in it\n" in said.err


def test_one_that_is_meant_in_a_build_file(bench: Bench) -> None:
    target = "targets: {default: {secrets: ['id=k,env=K'], entitlements: [secret.leak=k]}}"
    bench.write({"Buildfile": f"FROM busybox\n{MOUNT} cp /run/secrets/k /f\n", "imgbuild.yaml": target})
    said = bench.run("bake", cwd=bench.context, environ={"K": SECRET}, code=2).err
    assert "the target default wants secret.leak=k" in said
    bench.run("bake", "--allow", "secret.leak", cwd=bench.context, environ={"K": SECRET})


@pytest.mark.parametrize("word", ["secret.leak=", "secret.leek", "secret"])
def test_allowances_that_make_no_sense(shared: Bench, word: str) -> None:
    assert f"--allow {word} is not known" in shared.refused("FROM busybox\n", "--allow", word, code=2)


def test_one_that_is_too_short_is_said(bench: Bench) -> None:
    text = f"FROM busybox\n{MOUNT} cp /run/secrets/k /f\n"
    done = bench.build(text, *GIVEN, environ={"K": "1234567"})
    assert "too short or too plain to be looked for in layers: the secret 'k'" in done.err
    assert "too short" not in bench.build(text, *GIVEN, environ={"K": "1234567"}).err


def test_nothing_is_sent_before_it_was_looked_through(bench: Bench, tmp_path: Path) -> None:
    text = f"FROM busybox\n{MOUNT} head -c 30000000 /dev/urandom > /f; cat /run/secrets/k >> /f\n"
    with Mock(tmp_path / "registry") as mock:
        output = ("--output", f"type=registry,name={mock.authority}/x:1")
        assert "'f' has the secret 'k' in it\n" in bench.refused(text, *GIVEN, *output, code=1, environ={"K": SECRET})
        assert [request for request in mock.requests() if request["method"] not in ("GET", "HEAD")] == []
