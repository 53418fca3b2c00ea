"""ADD of a Git repository: refs, directories, submodules, checksums, what is asked of the server, and what is refused."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Bench, copied
from .servers import Repositories, serving_git, serving_git_over_http


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Repositories]:
    with serving_git(tmp_path / "git") as host:
        yield host


@pytest.fixture
def repository(host: Repositories) -> str:
    """The URL of "app", with a branch, a tag of each kind, and a symlink."""
    url = host.make("app")
    host.commit("app", {"a.txt": "one", "sub/b.txt": "two", "sub/deep/c": "three"}, tag="v1")
    host.commit("app", {"a.txt": "annotated"}, tag="v2", annotated=True)
    host.commit("app", {"a.txt": "dev", "link": "-> sub"}, branch="dev/one")
    host.commit("app", {"a.txt": "main"}, start="v2")
    return url


def _a(bench: Bench) -> bytes:
    return bench.files()["r/a.txt"].data


def _add(source: str, flags: str = "") -> str:
    return f"FROM scratch\nADD {flags}{source} /r\n"


def test_the_files_of_a_commit_without_its_history(bench: Bench, repository: str) -> None:
    bench.build(_add(f"{repository}#v1"))
    files = bench.files()
    assert {name: entry.data for name, entry in files.items() if entry.info.isreg()} == {
        "r/a.txt": b"one",
        "r/sub/b.txt": b"two",
        "r/sub/deep/c": b"three",
    }
    info = files["r/a.txt"].info
    assert (info.mode, info.uid, info.gid, info.mtime) == (0o644, 0, 0, 0)


@pytest.mark.parametrize(
    ("words", "content"),
    [
        ("", b"main"),
        ("#main", b"main"),
        ("#v1", b"one"),
        ("#v2", b"annotated"),
        ("#dev/one", b"dev"),
        ("#refs/heads/dev/one", b"dev"),
        ("?branch=dev/one", b"dev"),
        ("?tag=v2", b"annotated"),
        ("?ref=refs/tags/v1&submodules=false", b"one"),
    ],
)
def test_a_ref_in_every_form(bench: Bench, repository: str, words: str, content: bytes) -> None:
    bench.build(_add(f"{repository}{words}"))
    assert _a(bench) == content


def test_a_directory_of_it(bench: Bench, repository: str) -> None:
    bench.build(f"FROM scratch\nADD {repository}#v1:sub /r/\nADD {repository}?tag=v1&subdir=/sub/deep /r/more/\n")
    assert {name for name, entry in bench.files().items() if entry.info.isreg()} == {"r/b.txt", "r/deep/c", "r/more/c"}
    assert "has no directory 'gone'" in bench.refused(_add(f"{repository}#main:gone"), code=12)
    assert "'link' of" in bench.refused(_add(f"{repository}#dev/one:link"), code=12)
    assert "is not a directory" in bench.refused(_add(f"{repository}#main:a.txt"), code=12)
    bench.build(_add(f"{repository}#main:../../sub"))
    assert "r/b.txt" in bench.files()


def test_a_commit_needs_no_network_when_it_is_there(bench: Bench, repository: str, host: Repositories) -> None:
    commit = host.git("rev-parse", "v1", directory=host.work("app"))
    text = _add(f"{repository}#{commit}")
    bench.build(text)
    assert _a(bench) == b"one"
    (host.place / "app.git").rename(host.place / "away.git")
    assert list(bench.build(text).steps.values()) == ["CACHED"]
    assert list(bench.build(text, "--no-cache", "--offline").steps.values()) == ["DONE"]
    bench.run("prune", "--all")
    assert os.listdir(bench.root / "sources") == []
    assert "is not in the store, and this is offline" in bench.refused(text, "--offline", code=13)


def test_a_branch_is_asked_for_each_time(bench: Bench, repository: str, host: Repositories) -> None:
    text = _add(f"{repository}#main")
    bench.build(text)
    assert list(bench.build(text).steps.values()) == ["CACHED"]
    host.git("checkout", "-q", "main", directory=host.work("app"))
    host.commit("app", {"a.txt": "moved"})
    assert list(bench.build(text, "--offline").steps.values()) == ["CACHED"]
    assert list(bench.build(text).steps.values()) == ["DONE"]
    assert _a(bench) == b"moved"
    # another commit with the same files is the same
    host.git("commit", "-q", "--allow-empty", "-m", "nothing", directory=host.work("app"))
    host.git("push", "-q", "origin", "main", directory=host.work("app"))
    assert list(bench.build(text).steps.values()) == ["CACHED"]


def test_a_checksum_holds_a_ref(bench: Bench, repository: str, host: Repositories) -> None:
    commit = host.git("rev-parse", "v2^{commit}", directory=host.work("app"))
    tag = host.git("rev-parse", "v2", directory=host.work("app"))
    assert commit != tag
    for checksum in (commit, commit[:12], tag):
        bench.build(_add(f"{repository}#v2", f"--checksum={checksum} "))
    bench.build(_add(f"{repository}?checksum={commit}"))
    assert _a(bench) == b"annotated"
    said = bench.refused(_add(f"{repository}#v1", f"--checksum={commit} "), code=12)
    assert f"{repository}#v1 is not what its checksum says" in said
    assert f"expected:  {commit}" in said
    assert "differ" in bench.refused(_add(f"{repository}?tag=v2&checksum={commit}", "--checksum=abc "), code=10)


def test_the_git_directory_is_kept_where_it_is_wanted(bench: Bench, repository: str, template: Bench, tmp_path: Path) -> None:
    text = _add(f"{repository}#v1", "--keep-git-dir=true ")
    bench.build(text)
    files = bench.files()
    assert files["r/.git/config"].data.count(repository.encode()) == 1
    assert not any("/logs" in name or "/hooks" in name for name in files)
    other = copied(template, tmp_path / "other")
    other.build(text)
    assert other.manifest() == bench.manifest()
    out = bench.place / "out"
    bench.build(_add(f"{repository}?tag=v1&keep-git-dir=true"), "-o", out)
    assert list(bench.build(None).steps.values()) == ["CACHED"]
    hosted = Repositories(tmp_path, "")
    assert hosted.git("-c", "safe.directory=*", "status", "--porcelain", directory=out / "r") == ""
    assert hosted.git("-c", "safe.directory=*", "describe", "--tags", directory=out / "r") == "v1"
    bench.build(_add(f"{repository}#v1:sub", "--keep-git-dir=true "))
    assert "r/.git" not in bench.files()


def test_submodules_come_with_it(bench: Bench, repository: str, host: Repositories) -> None:
    url = host.make("outer")
    host.commit("outer", {"o.txt": "outer"})
    host.git("submodule", "--quiet", "add", "-b", "main", repository, "mod", directory=host.work("outer"))
    host.commit("outer", {"o.txt": "with"})
    bench.build(_add(url))
    assert {name for name, entry in bench.files().items() if entry.info.isreg()} == {
        "r/.gitmodules", "r/o.txt", "r/mod/a.txt", "r/mod/sub/b.txt", "r/mod/sub/deep/c",
    }  # fmt: skip
    bench.build(_add(f"{url}?submodules=false"))
    assert "r/mod/a.txt" not in bench.files()


def test_a_submodule_that_is_no_remote_repository(bench: Bench, host: Repositories) -> None:
    url = host.make("evil")
    host.commit("evil", {"x": "1"})
    host.git("submodule", "--quiet", "add", host.place / "evil.git", "mod", directory=host.work("evil"))
    host.commit("evil", {"x": "2"})
    said = bench.refused(_add(url), code=12)
    assert "can't fetch the submodules" in said
    assert "transport 'file' not allowed" in said


def test_settings_and_hooks_of_others_do_nothing(bench: Bench, repository: str, host: Repositories) -> None:
    home = Path(bench.environ["HOME"])
    (home / "hooks").mkdir()
    hook = home / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {home}/ran\n")
    hook.chmod(0o755)
    template = f"[init]\n\ttemplateDir = {home}\n[filter \"evil\"]\n\tsmudge = touch {home}/ran; cat\n[core]\n\tautocrlf = true\n"
    (home / ".gitconfig").write_text(template)
    host.commit("app", {".gitattributes": "* filter=evil\n", "a.txt": "text\n"}, branch="attributes")
    bench.build(_add(f"{repository}#attributes"))
    assert _a(bench) == b"text\n"
    assert not (home / "ran").exists()


def test_flags_of_add_hold_for_what_is_fetched(bench: Bench, repository: str, host: Repositories) -> None:
    bench.build(f"FROM busybox\nADD --chown=ann:staff --chmod=u=rwX,go= --exclude=sub/deep --link=false {repository}#v1 /r\n")
    files = bench.files()
    assert {name for name in files if name.startswith("r/")} == {"r/a.txt", "r/sub", "r/sub/b.txt"}
    assert (files["r/a.txt"].info.mode, files["r/a.txt"].info.uid, files["r/sub"].info.mode) == (0o600, 1000, 0o700)
    other = host.make("other")
    host.commit("other", {"o.txt": "other"})
    bench.build(f"FROM scratch\nADD --link {repository}#v1 {other} /r/\n")
    assert {"r/a.txt", "r/o.txt"} <= set(bench.files())


def test_a_repository_of_the_other_hash(bench: Bench, host: Repositories) -> None:
    url = host.make("new", "sha256")
    commit = host.commit("new", {"a.txt": "sha256"})
    assert len(commit) == 64
    for source in (url, f"{url}#{commit}"):
        bench.build(_add(source, f"--checksum={commit} "))
        assert _a(bench) == b"sha256"


def test_a_repository_without_a_commit(bench: Bench, host: Repositories) -> None:
    assert "has no default branch" in bench.refused(_add(host.make("empty")), code=12)


def test_over_ssh(bench: Bench, repository: str, host: Repositories) -> None:
    fake = bench.place / "bin" / "ssh"
    fake.parent.mkdir()
    # The last argument is the command; the one before is whom it is sent to.
    said = f'printf "%s\\n" "$@" "agent $SSH_AUTH_SOCK" >> {bench.place}/asked'
    fake.write_text(f'#!/bin/sh\n{said}\nfor last; do :; done\ncd {host.place} && eval "exec $last"\n')
    fake.chmod(0o755)
    environ = {"PATH": f"{fake.parent}:{bench.environ['PATH']}"}
    for url in ("git@far.example.com:app.git#v1", f"ssh://me@far.example.com:2222{host.place}/app.git#v1"):
        with socket.create_server(str(bench.place / "agent"), family=socket.AF_UNIX):
            bench.build(_add(url), "--no-cache", f"--ssh=default={bench.place}/agent", environ=environ)
        (bench.place / "agent").unlink()
        assert _a(bench) == b"one"
    asked = (bench.place / "asked").read_text().splitlines()
    assert "BatchMode=yes" in asked
    assert f"agent {bench.place}/agent" in asked
    assert {"git@far.example.com", "me@far.example.com", "2222"} <= set(asked)


def test_over_http_with_a_token(bench: Bench, tmp_path: Path) -> None:
    value = "Basic " + base64.b64encode(b"x-access-token:let-me-in").decode()
    with serving_git_over_http(tmp_path / "private", value) as host:
        url = host.make("app")
        commit = host.commit("app", {"a.txt": "private"})
        (bench.place / "token").write_text("let-me-in\n")
        said = bench.refused(_add(url), code=12)
        assert "GIT_AUTH_TOKEN" in said
        bench.build(_add(url), "--secret", f"id=GIT_AUTH_TOKEN,src={bench.place}/token")
        assert _a(bench) == b"private"
        bench.build(_add(f"{url}#{commit}", "--keep-git-dir "), "--secret", f"id=GIT_AUTH_TOKEN.127.0.0.1,src={bench.place}/token")
        assert not any(b"let-me-in" in entry.data or value.encode() in entry.data for entry in bench.files().values())


def test_a_password_of_the_url_is_in_no_git_directory(bench: Bench, tmp_path: Path) -> None:
    value = "Basic " + base64.b64encode(b"me:let-me-in").decode()
    with serving_git_over_http(tmp_path / "private", value) as host:
        host.make("mod")
        host.commit("mod", {"m.txt": "module"})
        url = host.make("app").replace("http://", "http://me:let-me-in@")
        host.commit("app", {"a.txt": "private"})
        work = host.work("app")
        host.git("submodule", "--quiet", "add", "-b", "main", host.place / "mod.git", "mod", directory=work)
        host.git("config", "-f", ".gitmodules", "submodule.mod.url", "../mod.git", directory=work)
        host.commit("app", {"a.txt": "with"})
        bench.build(_add(url, "--keep-git-dir "))
        files = bench.files()
        assert files["r/mod/m.txt"].data == b"module"
        assert b"/mod.git" in files["r/.git/modules/mod/config"].data
        assert [name for name, entry in files.items() if b"let-me-in" in entry.data] == []


def test_what_is_not_there(bench: Bench, repository: str) -> None:
    said = bench.refused(_add(f"{repository}#nowhere"), code=12)
    assert f"{repository} has no ref 'nowhere'" in said
    assert "Buildfile:2" in said
    assert "only whole ones can be fetched" in bench.refused(_add(f"{repository}#abcdef1"), code=12)
    assert "has no ref" in bench.refused(_add(f"{repository}#{'0' * 39}1"), code=12)
    said = bench.refused(_add(repository.replace("app", "gone")), code=12)
    assert "can't read the refs of" in said
    assert "can't read the refs" in bench.refused(_add("git://127.0.0.1:1/x.git"), code=12)
    assert "the program git is not there" in bench.refused(_add(repository), code=12, environ={"PATH": "/nonexistent"})
    assert not [name for name in os.listdir(bench.root / "tmp") if name.startswith("git")]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://example.com/x.git#--upload-pack=x", "can't be a Git ref"),
        ("https://example.com/x.git#a..b", "can't be a Git ref"),
        ("ssh://-oProxyCommand=x/y.git", "is not the URL of a Git repository"),
        ("https://example.com/x.git?branch=a&tag=b", "both a branch and a tag"),
        ("https://example.com/x.git?branch=a#b", "says two things of its ref"),
        ("https://example.com/x.git?depth=1", "'depth' is not known in the query of a Git URL"),
        ("https://example.com/x.git?branch=", "'branch' in the query of a Git URL has no value"),
        ("https://example.com/x.git?submodules=maybe", "bad value 'maybe'"),
        ("https://example.com/x.git?checksum=xyz", "bad checksum 'xyz' for a Git source"),
        ("--checksum=sha256:00 https://example.com/x.git", "bad checksum 'sha256:00' for a Git source"),
        ("--keep-git-dir=false https://example.com/x.git?keep-git-dir=true", "--keep-git-dir and keep-git-dir in the URL differ"),
    ],
)
def test_refused(shared: Bench, source: str, words: str) -> None:
    said = shared.refused(f"FROM scratch\nADD {source} /x\n", code=10)
    assert words in said
    assert "Buildfile:2" in said


def test_copy_refuses_a_repository(shared: Bench) -> None:
    said = shared.refused("FROM scratch\nCOPY git@example.com:a/b.git /x\n", code=10)
    assert "a source of COPY can't be a Git repository" in said
