"""`imgbuild bake`: several targets of one build file, built side by side on one store."""

from __future__ import annotations

import io
import json
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_mock.client import Mock

from .harness import SOURCE, Bench, Done, ended, wait_for_line

SHARED = """
FROM busybox AS shared
ARG VERSION=1
RUN echo $VERSION > /version

FROM shared AS app
RUN echo app > /app

FROM shared AS worker
RUN echo worker > /worker
"""
TARGETS = """
groups: {default: [app, worker]}
targets:
  app: {target: app, tags: ["app:1", app]}
  worker: {target: worker, tags: [worker]}
"""


def _bake(bench: Bench, *arguments: str | Path, code: int | None = 0, environ: dict[str, str] | None = None) -> Done:
    return bench.run("bake", "--progress=plain", *arguments, code=code, environ=environ)


def _refused(bench: Bench, text: str, *arguments: str, code: int = 10) -> str:
    bench.write({"imgbuild.yaml": text})
    done = _bake(bench, *arguments, code=code)
    assert len(done.errors) == 1, done.err
    return done.err[done.err.index("imgbuild: ") :]


def _names(bench: Bench) -> list[str]:
    """The names in the store."""
    lines = bench.run("images").out.splitlines()[1:]
    return sorted(":".join(line.split()[:2]) for line in lines if not line.startswith("<none>"))


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    with Mock(tmp_path / "registry") as mock:
        yield mock


def test_a_shared_step_runs_once(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": TARGETS})
    done = _bake(bench)
    shared = [line.split()[0] for line in done.err.splitlines() if "RUN echo $VERSION" in line]
    outcomes = sorted(
        words[1] for line in done.err.splitlines() if (words := line.split())[0] in shared and words[1] in ("CACHED", "DONE", "FAILED")
    )
    assert outcomes == ["CACHED", "DONE"]
    assert [line for line in done.err.splitlines() if "[app app 1/1] RUN echo app > /app" in line]
    assert [line for line in done.err.splitlines() if "[worker worker 1/1] RUN echo worker > /worker" in line]
    assert _names(bench) == ["app:1", "app:latest", "busybox:latest", "worker:latest"]
    assert bench.files("app:1")["version"].data == b"1\n"
    assert bench.files("worker:latest")["worker"].data == b"worker\n"
    bench.assert_whole()


def test_all_of_a_second_bake_is_cached_and_the_digests_are_those_of_build(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": TARGETS})
    _bake(bench)
    again = _bake(bench)
    assert " DONE " not in again.err
    assert again.err.count(" CACHED") == 4
    bench.build(None, "--target", "app", "--no-cache")
    assert bench.manifest("x:latest") == bench.manifest("app:1")


def test_no_cache_performs_a_shared_step_once(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED.replace("echo $VERSION", "cat /proc/sys/kernel/random/uuid"), "imgbuild.yaml": TARGETS})
    _bake(bench)
    first = bench.files("app:1")["version"].data
    _bake(bench, "--no-cache")
    second = bench.files("app:1")["version"].data
    assert second != first
    assert bench.files("worker:latest")["version"].data == second


def test_the_result_of_another_target(bench: Bench) -> None:
    text = """
targets:
  default:
    contexts: {base: "target:lib"}
    buildfile-inline: |
      FROM base
      COPY --from=base /lib.txt /copied.txt
      RUN --mount=from=base,target=/m cat /m/lib.txt > /mounted.txt
    tags: [end]
  lib:
    buildfile-inline: |
      FROM busybox
      RUN echo lib > /lib.txt
    tags: [lib]
    outputs: ["type=oci,dest=lib.tar"]
"""
    bench.write({"imgbuild.yaml": text})
    _bake(bench)
    files = bench.files("end:latest")
    assert {files[name].data for name in ("lib.txt", "copied.txt", "mounted.txt")} == {b"lib\n"}
    # What is only read by another target is neither named nor written out.
    assert _names(bench) == ["busybox:latest", "end:latest"]
    assert not (bench.context / "lib.tar").exists()
    assert " DONE " not in _bake(bench).err
    bench.write({"imgbuild.yaml": text.replace("echo lib >", "echo new >")})
    _bake(bench)
    assert bench.files("end:latest")["mounted.txt"].data == b"new\n"
    _bake(bench, "lib", "default")
    assert (bench.context / "lib.tar").exists()
    assert _names(bench) == ["busybox:latest", "end:latest", "lib:latest"]


def test_set_and_variables(bench: Bench) -> None:
    bench.write(
        {
            "Buildfile": SHARED,
            "imgbuild.yaml": "variables: {V: two}\n" + TARGETS + "  x: {inherits: [app], args: {VERSION: $V}, tags: [x]}\n",
        }
    )
    _bake(bench, "x")
    assert bench.files()["version"].data == b"two\n"
    _bake(bench, "x", environ={"V": "env"})
    assert bench.files()["version"].data == b"env\n"
    _bake(bench, "x", "--var", "V=given", environ={"V": "env"})
    assert bench.files()["version"].data == b"given\n"
    _bake(bench, "x", "app", "--set", "*.args.VERSION=set", "--set", "app.tags+=more:2")
    assert bench.files()["version"].data == b"set\n"
    assert bench.files("more:2")["version"].data == b"set\n"


def test_print_builds_nothing_and_can_be_built(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": TARGETS})
    done = bench.run("bake", "--print", "--set", "app.args.VERSION=3", "worker", "app")
    printed = json.loads(done.out)
    assert printed["group"]["default"] == {"targets": ["worker", "app"]}
    assert printed["target"]["app"] == {"context": ".", "target": "app", "args": {"VERSION": "3"}, "tags": ["app:1", "app"]}
    assert _names(bench) == ["busybox:latest"]
    (bench.context / "imgbuild.yaml").unlink()
    bench.write({"docker-bake.json": done.out})
    _bake(bench)
    assert bench.files("app:1")["version"].data == b"3\n"


def test_lists(bench: Bench) -> None:
    bench.write({"imgbuild.yaml": "variables: {V: {default: 1, description: which}}\n" + TARGETS})
    assert bench.run("bake", "--list", "targets").out.splitlines()[1:] == ["default   group: app, worker", "app", "worker"]
    assert bench.run("bake", "--list=variables", environ={"V": "2"}).out.splitlines()[1].split() == ["V", "2", "1", "which"]
    assert "it lists targets or variables" in bench.run("bake", "--list", "things", code=2).err


def test_a_failing_target(bench: Bench) -> None:
    text = """
groups: {default: [after, bad, good]}
targets:
  bad: {buildfile-inline: "FROM busybox\\nRUN echo about to fail; exit 7\\n", tags: [bad], outputs: ["type=oci,dest=bad.tar"]}
  after: {buildfile-inline: "FROM bad\\nRUN echo after\\n", contexts: {bad: "target:bad"}, tags: [after]}
  good: {buildfile-inline: "FROM busybox\\nRUN echo good > /good\\n", tags: [good]}
"""
    bench.write({"imgbuild.yaml": text})
    done = _bake(bench, "good")
    done = _bake(bench, code=1)
    assert len(done.errors) == 1
    assert "imgbuild.yaml[bad]:2: target bad: " in done.errors[0]
    assert "7" in done.errors[0]
    assert "[after" not in done.err
    assert _names(bench) == ["busybox:latest", "good:latest"]
    assert not (bench.context / "bad.tar").exists()
    bench.assert_whole()


def test_a_failure_stops_the_others(bench: Bench) -> None:
    text = """
groups: {default: [slow, bad]}
targets:
  bad:
    buildfile-inline: |
      FROM busybox
      RUN --mount=type=cache,id=meet,target=/meet until test -e /meet/there; do sleep 0.05; done; exit 3
  slow:
    buildfile-inline: |
      FROM busybox
      RUN --mount=type=cache,id=meet,target=/meet touch /meet/there && sleep 1000
    tags: [slow]
"""
    bench.write({"imgbuild.yaml": text})
    done = _bake(bench, code=1)
    assert len(done.errors) == 1
    assert "target bad: " in done.errors[0]
    assert any(line.startswith("#") and " CANCELED " in line for line in done.err.splitlines())
    assert "slow:latest" not in _names(bench)
    bench.assert_whole()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_all_targets(bench: Bench, signum: signal.Signals, code: int) -> None:
    target = '{buildfile-inline: "FROM busybox\\nRUN echo started as %s && sleep 1000\\n", tags: [%s]}'
    bench.write({"imgbuild.yaml": f"groups: {{default: [a, b]}}\ntargets: {{a: {target % ('a', 'a')}, b: {target % ('b', 'b')}}}"})
    with bench.started("bake", "--progress=plain") as process:
        wait_for_line(process, b"| started as ")
        assert ended(process, signum)[0] == code
    bench.run("images")
    assert _names(bench) == ["busybox:latest"]
    bench.assert_whole()


def test_one_slot_for_all(bench: Bench) -> None:
    """With --parallel 1, no two steps of any targets run at once: each finds the mark of nobody else."""
    step = "RUN --mount=type=cache,id=mark,target=/m test ! -e /m/mark && touch /m/mark && sleep 0.2 && rm /m/mark && echo $WHO > /who"
    bench.write({"Buildfile": f"FROM busybox\nARG WHO\n{step}\n"})
    bench.write({"imgbuild.yaml": "targets: {default: {matrix: {who: [a, b, c]}, name: 'default-${who}', args: {WHO: '${who}'}}}"})
    done = _bake(bench, "--parallel", "1")
    assert done.err.count(" DONE ") == 3


def test_push(bench: Bench, mock: Mock) -> None:
    bench.write({"Buildfile": SHARED})
    bench.write(
        {
            "imgbuild.yaml": TARGETS.replace("app:1", f"{mock.authority}/app:1")
            .replace(", app]", "]")
            .replace("[worker]}", f"[{mock.authority}/worker]}}")
        }
    )
    _bake(bench, "--push", "--metadata-file", "facts.json")
    facts = json.loads((bench.context / "facts.json").read_text())
    assert set(facts) == {"app", "worker"}
    for target, name in (("app", f"{mock.authority}/app:1"), ("worker", f"{mock.authority}/worker:latest")):
        digest = facts[target]["containerimage.digest"]
        assert facts[target]["image.name"] == name
        assert any(request["method"] == "PUT" and request["path"].startswith(f"/v2/{target}/manifests/") for request in mock.requests())
        bench.run("rmi", name)
        bench.run("pull", name)
        assert json.loads(bench.run("inspect", name).out)[0]["Digest"] == digest


def test_push_of_a_failed_bake(bench: Bench, mock: Mock) -> None:
    bench.write(
        {"imgbuild.yaml": f"targets: {{default: {{buildfile-inline: 'FROM busybox\n\n      RUN false', tags: ['{mock.authority}/bad']}}}}"}
    )
    _bake(bench, "--push", code=1)
    assert [request for request in mock.requests() if request["method"] == "PUT"] == []


def test_json_events_and_quiet(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": TARGETS})
    events = [json.loads(line) for line in bench.run("bake", "--progress=json").out.splitlines()]
    finished = [event for event in events if event["event"] == "BuildFinished"]
    assert sorted(event["target"] for event in finished) == ["app", "worker"]
    numbers = [event["step"] for event in events if event["event"] == "StepStarted"]
    assert len(numbers) == len(set(numbers)) == 4
    identities = bench.run("bake", "-q").out.split()
    assert identities == [event["image"] for event in finished]


def test_compose(bench: Bench) -> None:
    bench.write({
        "compose.yaml": "services: {a: {image: 'made:${TAG}', build: {context: a, args: {X: '${X:-1}'}}}, b: {image: busybox}}",
        "compose.override.yaml": "services: {a: {build: {labels: [l=1]}}}",
        ".env": "TAG=dotenv\nX=2\n",
        "a/Dockerfile": "FROM busybox\nARG X\nRUN echo $X > /x\n",
    })  # fmt: skip
    _bake(bench, environ={"X": "3"})
    assert bench.files("made:dotenv")["x"].data == b"3\n"
    assert bench.config("made:dotenv")["Labels"] == {"l": "1"}


def test_compose_with_secrets_of_a_file_elsewhere(bench: Bench) -> None:
    bench.write({
        "sub/docker-compose.yml": "services: {a: {image: a, build: {context: ., secrets: [t]}}}\nsecrets: {t: {file: ./token}}",
        "sub/token": "hidden",
        "sub/Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=t wc -c < /run/secrets/t > /size\n",
    })  # fmt: skip
    _bake(bench, "-f", "sub/docker-compose.yml")
    assert bench.files("a:latest")["size"].data.strip() == b"6"


def test_a_build_file_on_stdin_and_elsewhere(bench: Bench) -> None:
    bench.write({"sub/Buildfile": "FROM busybox\nRUN true\n", "sub/imgbuild.yaml": "targets: {default: {tags: [here]}}"})
    _bake(bench, "-f", "sub/imgbuild.yaml")
    bench.run("bake", "-f", "-", stdin=b"targets: {default: {context: sub, tags: [there]}}")
    assert _names(bench) == ["busybox:latest", "here:latest", "there:latest"]
    assert bench.manifest("here:latest") == bench.manifest("there:latest")


def test_settings_and_build_files_are_told_apart(bench: Bench) -> None:
    said = _refused(bench, "parallelism: 3\n")
    assert "imgbuild.yaml:1:1: 'parallelism' belongs to the settings file, and this is a build file" in said
    assert "  1 | parallelism: 3\n    | ^^^^^^^^^^^\n" in said
    bench.write({"imgbuild.yaml": TARGETS})
    done = bench.run("--config", "imgbuild.yaml", "images", code=22)
    assert "imgbuild.yaml:2:1: 'groups' belongs to a build file, and this is the settings file" in done.err
    assert "imgbuild bake -f" in done.err


def test_a_target_that_is_built_for_another_platform(bench: Bench) -> None:
    bench.write({"f": "f", "imgbuild.yaml": """
targets:
  one: {platforms: [linux/arm64], buildfile-inline: "FROM scratch\\nCOPY f /f\\n"}
  two: {platforms: [linux/arm64, linux/s390x], buildfile-inline: "FROM scratch\\nCOPY f /f\\n"}
  copies: {contexts: {built: "target:one"}, platforms: [linux/amd64], buildfile-inline: "FROM scratch\\nCOPY --from=built /f /\\n"}
  starts: {contexts: {built: "target:two"}, platforms: [linux/amd64], buildfile-inline: "FROM built\\nCOPY f /g\\n"}
  means: {contexts: {built: "target:one"}, buildfile-inline: "FROM --platform=linux/arm64 built\\nCOPY f /g\\n"}
  same: {contexts: {built: "target:two"}, platforms: [linux/arm64], buildfile-inline: "FROM built\\nCOPY f /g\\n"}
"""})
    for target, built in (("copies", "one is built for linux/arm64"), ("starts", "two is built for linux/arm64, linux/s390x")):
        done = bench.run("bake", target, code=19)
        assert len(done.errors) == 1
        assert f"{built} only, and is read for linux/amd64" in done.errors[0]
        assert "add linux/amd64 to its platforms" in done.err
    bench.run("bake", "means", "same")



def test_errors_point_into_the_build_file(bench: Bench) -> None:
    said = _refused(bench, "targets:\n  default:\n    contxt: .\n")
    assert said.startswith("imgbuild: error: imgbuild.yaml:3:5: unknown key 'contxt' in the target default\n")
    assert "  3 |     contxt: .\n    |     ^^^^^^\n  hint: did you mean context?" in said
    assert "imgbuild.yaml:1:22: target default: the build context 'gone' does not exist" in _refused(
        bench, "targets: {default: { context: gone}}", code=12
    )
    bench.write({"Buildfile": SHARED})
    assert "imgbuild.yaml:1:21: target default: --tag A B: " in _refused(bench, "targets: {default: {tags: ['A B']}}", code=2)
    assert "imgbuild.yaml:1:21: target default: --secret 'x'" in _refused(bench, "targets: {default: {secrets: [x]}}", code=2)


def test_what_can_not_be_done_is_refused_at_its_key(bench: Bench) -> None:
    assert "imgbuild.yaml:1:21: a target can only be built here" in _refused(bench, "targets: {default: {call: check}}", code=11)
    assert "the attestation 'type=sbom' can't be made here" in _refused(bench, "targets: {default: {attest: ['type=sbom']}}", code=11)
    assert "pull can't be 'sometimes'" in _refused(bench, "targets: {default: {pull: sometimes}}")
    assert "compression can't be 'rar'" in _refused(bench, "targets: {default: {compression: rar}}")
    bench.write({"docker-bake.hcl": 'target "default" {}\n'})
    done = bench.run("bake", "-f", "docker-bake.hcl", code=11)
    assert "docker-bake.hcl is HCL, which is not read here" in done.err


def test_rights_are_granted_by_the_command_line_only(bench: Bench) -> None:
    text = "targets: {default: {buildfile-inline: 'FROM busybox', network: host}, b: {inherits: [default], network: none, allow: [device]}}"
    said = _refused(bench, text, code=2)
    assert f"imgbuild.yaml:1:{text.index('network') + 1}: the target default wants network.host\n" in said
    assert "grant it with --allow network.host" in said
    assert "the target b wants device" in _refused(bench, text, "b", code=2)
    _bake(bench, "--allow", "network.host")


def test_options_of_steps(bench: Bench) -> None:
    text = """
targets:
  default:
    buildfile-inline: |
      FROM busybox
      RUN cat /etc/hosts && ulimit -n && df -m /dev/shm | tail -1 && ls /sys/class/net
    network: none
    add-hosts: {there: 1.2.3.4}
    ulimits: {nofile: 100}
    shm-size: 32m
"""
    bench.write({"imgbuild.yaml": text})
    output = _bake(bench).output
    assert any(line.split() == ["1.2.3.4", "there"] for line in output)
    assert "100" in output
    assert any(line.split()[:2] == ["shm", "32"] or line.split()[1:2] == ["32"] for line in output)
    assert "lo" in output
    said = _refused(bench, "targets: {default: {buildfile-inline: 'FROM busybox', ulimits: [what=1]}}", code=2)
    assert "imgbuild.yaml:1:55: target default: --ulimit" in said


def test_annotations_and_stages_without_the_cache(bench: Bench) -> None:
    target = {"target": "app", "tags": ["x"], "annotations": ["a=b"], "no-cache-filter": ["SHARED"]}
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": json.dumps({"targets": {"default": target}})})
    _bake(bench)
    assert bench.manifest()["annotations"]["a"] == "b"
    again = _bake(bench).steps
    assert again == {"RUN echo $VERSION > /version": "DONE", "RUN echo app > /app": "CACHED"}
    said = _refused(bench, "targets: {default: {annotations: [a]}}", code=2)
    assert "imgbuild.yaml:1:21: target default: --annotation 'a' has no value" in said


def test_a_context_that_is_a_tar(bench: Bench) -> None:
    with tarfile.open(bench.context / "context.tar", "w") as tar:
        for name, text in (("sub/File", b"FROM busybox\nCOPY a /a\n"), ("a", b"one\n")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    text = "targets: {default: {context: context.tar, buildfile: sub/File, tags: [x]}}"
    bench.write({"imgbuild.yaml": text})
    _bake(bench)
    assert bench.files()["a"].data == b"one\n"


def test_several_platforms_of_a_target_that_another_reads(bench: Bench) -> None:
    text = """
targets:
  default:
    buildfile-inline: "FROM base\\nLABEL b=1\\n"
    contexts: {base: "target:lib"}
    platforms: &both [linux/amd64, linux/arm64]
    tags: [end]
  lib:
    buildfile-inline: "FROM scratch\\nARG TARGETARCH\\nLABEL arch=$TARGETARCH\\n"
    platforms: *both
"""
    bench.write({"imgbuild.yaml": text})
    _bake(bench)
    index = bench.manifest("end:latest")
    labels = []
    for entry in index["manifests"]:
        config = json.loads(bench.blob(json.loads(bench.blob(entry["digest"]))["config"]["digest"]))
        labels.append((entry["platform"]["architecture"], config["config"]["Labels"]))
    assert labels == [("amd64", {"arch": "amd64", "b": "1"}), ("arm64", {"arch": "arm64", "b": "1"})]


def test_checks_of_targets(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": TARGETS})
    done = bench.run("bake", "--check")
    assert done.out == "target app:\nCheck complete, no warnings found.\n\ntarget worker:\nCheck complete, no warnings found.\n"
    bench.write(
        {"imgbuild.yaml": "targets: {default: {buildfile-inline: 'from busybox\n\n\n      RUN true', contexts: {x: 'target:b'}}, b: {}}"}
    )
    done = bench.run("bake", "--call=check,format=json", code=1)
    assert [each["ruleName"] for each in json.loads(done.out)["warnings"]] == ["ConsistentInstructionCasing"]
    bench.write({"imgbuild.yaml": TARGETS})
    assert "name one target" in bench.run("bake", "--call=outline,format=json", code=2).err
    assert "VERSION" in bench.run("bake", "--call=outline", "app").out
    assert "did you mean check?" in bench.run("bake", "--call=chekc", code=2).err


def test_no_build_file(bench: Bench) -> None:
    assert "there is no build file here" in bench.run("bake", code=13).err
    assert "can't read the build file gone.yaml" in bench.run("bake", "-f", "gone.yaml", code=10).err
    bench.write({"docker-bake.hcl": ""})
    assert "is HCL" in bench.run("bake", code=11).err


def test_two_targets_do_not_make_one_thing(bench: Bench) -> None:
    bench.write({"Buildfile": SHARED, "imgbuild.yaml": TARGETS})
    assert "the targets app and worker both make stdout" in _bake(bench, "--set", "*.output=type=tar,dest=-", code=2).err
    assert "both make the file f.tar" in _bake(bench, "--set", "*.output=type=oci,dest=f.tar", code=2).err
    said = _bake(bench, "--set", "worker.tags+=app", code=2).err
    assert "imgbuild.yaml:5:28: the targets app and worker both make the tag app:latest" in said
    _bake(bench, "--set", "*.output=type=local,dest=both")
    assert {path.name for path in (bench.context / "both").iterdir()} > {"app", "worker", "version"}


def test_what_the_readme_shows(bench: Bench) -> None:
    readme = (SOURCE / "README.md").read_text(encoding="utf-8")
    text = readme[readme.index("### Several targets") :].split("```yaml\n")[1].split("```")[0]
    bench.write({"imgbuild.yaml": text, "Buildfile": "FROM busybox AS app\nARG VERSION\nRUN mkdir /docs && echo $VERSION > /docs/a\n"})
    _bake(bench, environ={"VERSION": "3"})
    assert _names(bench) == ["busybox:latest", "me/app:latest", "me/docs:html", "me/docs:text"]
    assert bench.files("me/docs:text")["a"].data == b"3\n"
    _bake(bench, "app", "--set", "*.args.VERSION=2")
    assert bench.files("me/app:latest")["docs/a"].data == b"2\n"
    assert set(json.loads(bench.run("bake", "--print", "docs").out)["target"]) == {"app", "docs-html", "docs-text"}


def test_the_example(bench: Bench, tmp_path: Path) -> None:
    context = shutil.copytree(SOURCE / "Buildfile.examples" / "bake", tmp_path / "notes")
    done = bench.run("bake", "--progress=plain", "everything", cwd=context)
    shared = [line for line in done.err.splitlines() if 'RUN echo "# $TITLE"' in line]
    assert len(shared) == 2
    performed = [line for line in done.err.splitlines() if any(line.startswith(f"{each.split()[0]} DONE") for each in shared)]
    assert len(performed) == 1
    assert bench.run("run", "--rm", "notes-reader").out == "# Notes\nBuilds share what they have in common.\n"
    assert bench.run("run", "--rm", "notes-writer", "a line of my own").out == "# Notes\na line of my own\n"
    assert set(bench.files("notes-archive:gz")) - {"."} == {"notes.tar.gz"}
    assert bench.files("notes-archive:bz2")["notes.tar.bz2"].data.startswith(b"BZh")
