"""ADD of a URL: names, modes, times, checksums, what is asked of the server, and what a server can do wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Bench
from .servers import Files, Page, serving_files

MODIFIED = "Tue, 14 Nov 2023 22:13:00 GMT"


@pytest.fixture
def web() -> Iterator[Files]:
    with serving_files() as files:
        yield files


def _impatient(bench: Bench) -> dict[str, str]:
    """An environment in which nothing is tried twice."""
    (bench.place / "imgbuild.yaml").write_text("network: {attempts: 1, connect-timeout: 5s, read-timeout: 5s}\n")
    return {"IMGBUILD_CONFIG": str(bench.place / "imgbuild.yaml")}


def _sum(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _tar(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


def test_a_file_is_named_by_its_url(bench: Bench, web: Files) -> None:
    web.put("/dir/a%20b.txt?x=1", b"one", Content_Disposition="attachment; filename=other", Last_Modified=MODIFIED)
    web.put("/", b"two")
    bench.build(f'FROM busybox\nADD ["{web.url}/dir/a%20b.txt?x=1", "/d/"]\nADD {web.url}/ /d/\nADD {web.url}/ /plain\n')
    files = bench.files()
    assert (files["d/a b.txt"].data, files["d/__unnamed__"].data, files["plain"].data) == (b"one", b"two", b"two")
    info = files["d/a b.txt"].info
    assert (info.mode, info.uid, info.gid, info.mtime) == (0o600, 0, 0, 1_699_999_980)
    assert files["plain"].info.mtime == 0


def test_mode_owner_and_time_can_be_said(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"x", Last_Modified="Tue, 14 Nov 2033 22:13:00 GMT")
    bench.build(f"FROM busybox\nARG HOST={web.url}\nADD --chmod=755 --chown=ann:staff $HOST/x /x\nADD {url} /y\n")
    info = bench.files()["x"].info
    assert (info.mode, info.uid, info.gid) == (0o755, 1000, 50)
    assert bench.files()["y"].info.mtime == 1_700_000_000  # no later than the base


def test_archives_stay_packed_unless_unpack_is_said(bench: Bench, web: Files) -> None:
    url = web.put("/a.tar.gz", _tar("inner", b"data"))
    bench.build(f"FROM scratch\nADD {url} /packed/\nADD --unpack=true {url} /open/\nADD --unpack=false {url} /packed2/\n")
    assert {name for name in bench.files() if "/" in name} == {"packed/a.tar.gz", "open/inner", "packed2/a.tar.gz"}


def test_remote_and_local_sources_stand_side_by_side(bench: Bench, web: Files) -> None:
    bench.write({"local.txt": "l"})
    url = web.put("/remote.txt", b"r")
    bench.build(f"FROM scratch\nADD local.txt {url} <<doc.txt /d/\nd\ndoc.txt\n")
    assert {name: entry.data for name, entry in bench.files().items() if "/" in name} == {
        "d/local.txt": b"l",
        "d/remote.txt": b"r",
        "d/doc.txt": b"d\n",
    }


def test_what_has_not_changed_is_cached_and_what_has_is_fetched(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"one", ETag='"1"')
    text = f"FROM scratch\nADD {url} /x\n"
    step = f"ADD {url} /x"
    assert bench.build(text).steps == {step: "DONE"}
    web.paths()
    assert bench.build(text).steps == {step: "CACHED"}
    assert [headers.get("if-none-match") for _, _, headers in web.requests] == ['"1"']
    web.put("/x", b"two", ETag='"2"')
    assert bench.build(text).steps == {step: "DONE"}
    assert bench.files()["x"].data == b"two"
    # without an ETag it is fetched again, and found to be the same
    web.put("/x", b"two")
    assert bench.build(text).steps == {step: "CACHED"}
    # another time is another file
    web.put("/x", b"two", Last_Modified=MODIFIED)
    assert bench.build(text).steps == {step: "DONE"}


def test_the_same_file_from_elsewhere_is_cached(bench: Bench, web: Files) -> None:
    one, two = web.put("/one/x", b"data"), web.put("/two/x?token=y", b"data")
    bench.build(f"FROM scratch\nADD {one} /d/\n")
    assert bench.build(f"FROM scratch\nADD {two} /d/\n").steps == {f"ADD {two} /d/": "CACHED"}


def test_a_checksum_needs_no_network_when_the_file_is_there(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"one")
    text = f"FROM scratch\nARG SUM={_sum(b'one')}\nADD --checksum=$SUM {url} /x\n"
    bench.build(text)
    web.paths()
    assert list(bench.build(text).steps.values()) == ["CACHED"]
    bench.run("prune")
    assert list(bench.build(text, "--offline", "--no-cache").steps.values()) == ["DONE"]
    assert web.paths() == []
    bench.assert_whole()
    bench.run("prune", "--all")
    assert "is not in the store, and this is offline" in bench.refused(text, "--offline", "--no-cache", code=13)


def test_a_file_that_was_damaged_in_the_store_is_fetched_again(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"one", ETag='"1"')
    text = f"FROM scratch\nADD --checksum={_sum(b'one')} {url} /x\n"
    bench.build(text)
    blob = bench.root / "blobs/sha256" / hashlib.sha256(b"one").hexdigest()
    blob.write_bytes(b"eno")
    web.paths()
    bench.build(text, "--no-cache")
    assert bench.files()["x"].data == b"one"
    assert web.paths() == ["/x"]
    blob.write_bytes(b"eno")
    assert "is not in the store" in bench.refused(text, "--no-cache", "--offline", code=13)


def test_offline_uses_what_was_fetched_last(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"one", ETag='"1"')
    text = f"FROM scratch\nADD {url} /x\n"
    said = bench.refused(text, "--pull=never", code=13)
    assert f"{url} is not in the store, and this is offline" in said
    bench.build(text)
    web.paths()
    assert list(bench.build(text, "--pull=never").steps.values()) == ["CACHED"]
    assert web.paths() == []


def test_a_wrong_checksum(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"one")
    said = bench.refused(f"FROM scratch\nADD --checksum={_sum(b'two')} {url} /x\n", code=12)
    assert f"{url} is not what its checksum says" in said
    assert f"fetched:  {_sum(b'one')}" in said
    assert f"expected: {_sum(b'two')}" in said
    assert "Buildfile:2" in said
    bench.build(f"FROM scratch\nADD {url} /x\n")
    assert "not what its checksum says" in bench.refused(f"FROM scratch\nADD --checksum={_sum(b'two')} {url} /x\n", code=12)


def test_redirects_are_followed_and_the_name_stays(bench: Bench, web: Files) -> None:
    web.put("/real", b"data")
    web.pages["/latest.txt"] = Page(status=302, headers={"Location": "/hop"})
    web.pages["/hop"] = Page(status=308, headers={"Location": f"{web.url}/real"})
    bench.build(f"FROM scratch\nADD {web.url}/latest.txt /d/\n")
    assert bench.files()["d/latest.txt"].data == b"data"
    web.pages["/loop"] = Page(status=302, headers={"Location": "/loop"})
    assert "more than 10 redirects" in bench.refused(f"FROM scratch\nADD {web.url}/loop /x\n", code=12)
    web.pages["/file"] = Page(status=302, headers={"Location": "file:///etc/passwd"})
    assert "a redirect leads to what is no HTTP URL" in bench.refused(f"FROM scratch\nADD {web.url}/file /x\n", code=12)


def test_a_token_is_sent_to_its_host_only(bench: Bench, web: Files) -> None:
    url = web.put("/x", b"one")
    (bench.place / "token").write_text("let-me-in\n")
    bench.build(f"FROM scratch\nADD {url} /x\n", "--secret", f"id=HTTP_AUTH_TOKEN_127.0.0.1,src={bench.place}/token")
    assert [headers.get("authorization") for _, _, headers in web.requests] == ["Bearer let-me-in"]
    assert b"let-me-in" not in (bench.root / "index.db").read_bytes()
    web.requests.clear()
    bench.build(f"FROM scratch\nADD {url} /x\n", "--secret", f"id=HTTP_AUTH_TOKEN_example.com,src={bench.place}/token")
    assert [headers.get("authorization") for _, _, headers in web.requests] == [None]


def test_servers_that_fail(bench: Bench, web: Files) -> None:
    (bench.place / "imgbuild.yaml").write_text("network: {attempts: 2, connect-timeout: 5s, read-timeout: 5s}\n")
    bench.environ["IMGBUILD_CONFIG"] = str(bench.place / "imgbuild.yaml")
    said = bench.refused(f"FROM scratch\nADD {web.url}/gone /x\n", code=12)
    assert f"can't fetch {web.url}/gone: the server answered 404" in said
    assert web.paths() == ["/gone"]
    web.pages["/down"] = Page(status=503)
    assert "the server answered 503" in bench.refused(f"FROM scratch\nADD {web.url}/down /x\n", code=12)
    assert web.paths() == ["/down", "/down"]
    web.pages["/short"] = Page(b"0123456789", short=4)
    assert "can't fetch" in bench.refused(f"FROM scratch\nADD {web.url}/short /x\n", code=12)
    web.pages["/private"] = Page(status=401)
    assert "HTTP_AUTH_TOKEN_" in bench.refused(f"FROM scratch\nADD {web.url}/private /x\n", code=12)
    assert "no server answers at 127.0.0.1:1" in bench.refused("FROM scratch\nADD http://127.0.0.1:1/x /x\n", code=12)
    assert [path for path in os.listdir(bench.root / "tmp") if not path.startswith("sandboxes")] == []


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("COPY http://127.0.0.1/x /x", 10, "a source of COPY can't be a URL"),
        ("ADD --checksum=sha256:12 http://127.0.0.1/x /x", 10, "bad checksum 'sha256:12'"),
        ("ADD --checksum=md5:12 http://127.0.0.1/x /x", 10, "bad checksum 'md5:12'"),
        (f"ADD --checksum=sha512:{'0' * 128} http://127.0.0.1/x /x", 10, "sha512, which is not known here"),
        (f"ADD --checksum=sha256:{'0' * 64} http://127.0.0.1/x http://127.0.0.1/y /x/", 10, "--checksum is of one source"),
        (f"ADD --checksum=sha256:{'0' * 64} Buildfile /x", 10, "--checksum needs a source that is a URL"),
        ('ADD ["http://127.0.0.1/a b", "/x"]', 10, "is not a URL that can be fetched"),
        ("ADD http://user@/x /x", 10, "is not a URL that can be fetched"),
        ("ADD http://127.0.0.1/x http://127.0.0.1/y /x", 10, "must be a directory and end in '/'"),
    ],
)
def test_refused(shared: Bench, line: str, code: int, words: str) -> None:
    said = shared.refused(f"FROM scratch\n{line}\n", code=code)
    assert words in said
    assert "Buildfile:2" in said


def _certificate(place: Path) -> tuple[Path, Path]:
    """A certificate of localhost, and its key."""
    certificate = place / "cert.pem", place / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-out", certificate[0], "-keyout", certificate[1], "-days", "2"]
    subprocess.run([*command, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return certificate


def test_a_redirect_out_of_tls_takes_no_token_along(bench: Bench, web: Files, tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)
    (bench.place / "token").write_text("let-me-in")
    with serving_files(certificate) as secure:
        plain = web.put("/x", b"open").replace("127.0.0.1", "localhost")
        secure.pages["/x"] = Page(status=302, headers={"Location": plain})
        secret = f"id=HTTP_AUTH_TOKEN_localhost,src={bench.place}/token"
        bench.build(f"FROM scratch\nADD {secure.url}/x /x\n", "--secret", secret, environ={"SSL_CERT_FILE": str(certificate[0])})
        assert [headers.get("authorization") for _, _, headers in secure.requests] == ["Bearer let-me-in"]
    assert bench.files()["x"].data == b"open"
    assert [headers.get("authorization") for _, _, headers in web.requests] == [None]


def test_over_tls_with_a_certificate_of_ones_own(bench: Bench, tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)
    with serving_files(certificate) as web:
        url = web.put("/x", b"secure")
        said = bench.refused(f"FROM scratch\nADD {url} /x\n", code=12)
        assert "certificate" in said
        bench.build(f"FROM scratch\nADD {url} /x\n", environ={"SSL_CERT_FILE": str(certificate[0])})
    assert bench.files()["x"].data == b"secure"


def test_by_way_of_a_proxy(bench: Bench, web: Files) -> None:
    url = "http://files.example.invalid/x"
    web.pages[url] = Page(b"by proxy")
    bench.build(f"FROM scratch\nADD {url} /x\n", environ={"HTTP_PROXY": web.url})
    assert bench.files()["x"].data == b"by proxy"
    environ = {"HTTP_PROXY": web.url, "NO_PROXY": ".example.invalid"}
    assert "can't fetch" in bench.refused(f"FROM scratch\nADD {url}2 /x\n", code=12, environ=environ | _impatient(bench))


def test_on_build_triggers_fetch(bench: Bench, web: Files) -> None:
    bench.build(f"FROM busybox\nONBUILD ADD {web.put('/x', b'one')} /x\n", "-t", "parent")
    assert web.paths() == []
    bench.build("FROM parent\n")
    assert bench.files()["x"].data == b"one"
    said = bench.refused(f"FROM busybox AS a\nONBUILD ADD {web.url}/gone /x\nFROM a\n", code=12)
    assert "the server answered 404" in said
