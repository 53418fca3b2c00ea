"""Mirrors, schemes, certificates and proxies: where a request goes."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_mock.client import Mock

from imgbuild.errors import CorruptError, RegistryError
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import OCI_LAYER, Descriptor
from imgbuild.registry.endpoints import Proxies, RegistryRule, RegistrySettings
from imgbuild.registry.problems import StatusError, UnreachableError

from .support import Say, Scripted, client_for

NAME = "library/app"
DATA = b"layer of library/app"
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))


def mirrored(*mirrors: str) -> RegistrySettings:
    # The registry itself is a port where nothing answers.
    return RegistrySettings(rules=(RegistryRule("nowhere.localhost:1", mirrors=mirrors, plain_http=True),), attempts=2)


def keep(chunks: object) -> bytes:
    data = b"".join(chunks)  # type: ignore[call-overload]
    if data != DATA:
        raise CorruptError("other bytes")
    return bytes(data)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subprocess.run([*command, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return cert, key


def test_a_mirror_serves_what_it_has(start: Callable[..., Mock]) -> None:
    mock = start()
    manifest = json.dumps(mock.image(NAME)).encode()
    mock.put(NAME, "v1", manifest)
    with client_for(mirrored(mock.url)) as client:
        repository = client.repository("nowhere.localhost:1", NAME)
        assert repository.manifest("v1").data == manifest
        assert repository.fetch_blob(BLOB, keep) == DATA


def test_the_next_mirror_is_asked_where_one_fails(start: Callable[..., Mock]) -> None:
    down, empty, corrupt, good = start(), start(), start(), start()
    down.stop()
    for mock in (corrupt, good):
        mock.push(NAME, DATA)
    corrupt.fault(do="corrupt", path="/blobs/", count=0)
    with client_for(mirrored(down.url, empty.url, corrupt.url, good.url)) as client:
        assert client.repository("nowhere.localhost:1", NAME).fetch_blob(BLOB, keep) == DATA


def test_all_failures_are_told(start: Callable[..., Mock]) -> None:
    empty = start()
    with client_for(mirrored(empty.url)) as client, pytest.raises(UnreachableError) as caught:
        client.repository("nowhere.localhost:1", NAME).manifest("v1")
    assert f"mirror {empty.authority}" in (caught.value.detail or "") and "MANIFEST_UNKNOWN" in (caught.value.detail or "")


def test_writing_goes_to_the_registry_alone(start: Callable[..., Mock]) -> None:
    mirror, registry = start(), start()
    settings = RegistrySettings(rules=(RegistryRule(registry.authority, mirrors=(mirror.url,)),))
    with client_for(settings) as client:
        repository = client.repository(registry.authority, NAME)
        assert repository.blob_size(BLOB.digest) is None
    assert not mirror.requests() and registry.requests()


def test_a_mirror_with_a_prefix(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda heard: Say(200, {}, DATA))
    with client_for(mirrored(f"{server.url}/hub")) as client:
        client.repository("nowhere.localhost:1", NAME).fetch_blob(BLOB, keep)
    assert server.asked() == [("GET", f"/v2/hub/{NAME}/blobs/{BLOB.digest}")]


def test_https_on_loopback_is_found(start: Callable[..., Mock], certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    mock = start("--tls-cert", str(cert), "--tls-key", str(key))
    mock.push(NAME, DATA)
    host = f"localhost:{mock.authority.rpartition(':')[2]}"
    with client_for(RegistrySettings(ca_file=cert)) as client:
        assert client.repository(host, NAME).fetch_blob(BLOB, keep) == DATA
    with client_for(RegistrySettings(rules=(RegistryRule(host, verify_tls=False, plain_http=False),))) as client:
        assert client.repository(host, NAME).fetch_blob(BLOB, keep) == DATA


def test_a_certificate_that_is_not_known(start: Callable[..., Mock], certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    mock = start("--tls-cert", str(cert), "--tls-key", str(key))
    host = f"localhost:{mock.authority.rpartition(':')[2]}"
    settings = RegistrySettings(rules=(RegistryRule(host, plain_http=False),))
    with client_for(settings) as client, pytest.raises(UnreachableError, match="certificate") as caught:
        client.repository(host, NAME).manifest("v1")
    assert "`ca`" in (caught.value.hint or "")


def test_a_certificate_of_another_name(start: Callable[..., Mock], certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    mock = start("--tls-cert", str(cert), "--tls-key", str(key))
    settings = RegistrySettings(rules=(RegistryRule(mock.authority, plain_http=False, ca_file=cert),))
    with client_for(settings) as client, pytest.raises(UnreachableError, match="certificate"):
        client.repository(mock.authority, NAME).manifest("v1")


def test_plain_http_where_https_is_spoken(mock: Mock) -> None:
    settings = RegistrySettings(rules=(RegistryRule(mock.authority, plain_http=False),), attempts=1)
    with client_for(settings) as client, pytest.raises(UnreachableError) as caught:
        client.repository(mock.authority, NAME).manifest("v1")
    assert "plain-http" in (caught.value.hint or "")


def test_a_missing_ca_file_is_told(start: Callable[..., Mock], certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    mock = start("--tls-cert", str(cert), "--tls-key", str(key))
    settings = RegistrySettings(rules=(RegistryRule(mock.authority, plain_http=False),), ca_file=tmp_path / "missing.pem", attempts=1)
    with client_for(settings) as client, pytest.raises(UnreachableError, match="certificates") as caught:
        client.repository(mock.authority, NAME).manifest("v1")
    assert "`ca`" in (caught.value.hint or "")


def test_an_unknown_host_is_told() -> None:
    settings = RegistrySettings(rules=(RegistryRule("no-such-host.invalid", plain_http=True),), attempts=1)
    with client_for(settings) as client, pytest.raises(UnreachableError, match=r"no-such-host\.invalid"):
        client.repository("no-such-host.invalid", NAME).manifest("v1")


def test_a_redirect_from_https_to_http_is_refused(scripted: Callable[..., Scripted], certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    plain = scripted(lambda heard: Say(200, {}, DATA))
    server = Scripted(lambda heard: Say(307, {"Location": plain.url}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    host = f"localhost:{server.host.rpartition(':')[2]}"
    settings = RegistrySettings(rules=(RegistryRule(host, plain_http=False, ca_file=cert),))
    with server, client_for(settings) as client, pytest.raises(RegistryError, match="HTTPS"):
        client.repository(host, NAME).fetch_blob(BLOB, keep)
    assert not plain.heard


def test_redirects_end(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda heard: Say(302, {"Location": heard.path + "x"}) if "/blobs/" in heard.path else Say())
    with client_for() as client, pytest.raises(RegistryError, match="redirects"):
        client.repository(server.host, NAME).fetch_blob(BLOB, keep)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "//"])
def test_redirects_to_nowhere(scripted: Callable[..., Scripted], location: str) -> None:
    server = scripted(lambda heard: Say(302, {"Location": location}) if "/blobs/" in heard.path else Say())
    with client_for() as client, pytest.raises(RegistryError):
        client.repository(server.host, NAME).fetch_blob(BLOB, keep)


def test_a_proxy_is_used_but_not_for_loopback(scripted: Callable[..., Scripted]) -> None:
    proxy = scripted(lambda heard: Say(200, {}, DATA))
    server = scripted(lambda heard: Say(200, {}, DATA))
    rules = tuple(RegistryRule(name, plain_http=True) for name in ("far.example", "near.corp.example"))
    settings = RegistrySettings(rules=rules, proxies=Proxies(http=proxy.url, bypass=(".corp.example",)), attempts=1)
    with client_for(settings) as client:
        assert client.repository("far.example", NAME).fetch_blob(BLOB, keep) == DATA
        assert client.repository(server.host, NAME).fetch_blob(BLOB, keep) == DATA
        with pytest.raises(RegistryError):
            client.repository("near.corp.example", NAME).fetch_blob(BLOB, keep)
    assert [heard.path for heard in proxy.heard] == [f"http://far.example/v2/{NAME}/blobs/{BLOB.digest}"]


def test_the_environment_and_netrc_have_no_say(scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = scripted(lambda heard: Say(200, {}, DATA))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login stolen password stolen\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with client_for() as client:
        client.repository(server.host, NAME).fetch_blob(BLOB, keep)
    assert all("authorization" not in heard.headers for heard in server.heard)


def test_a_name_that_is_no_registry(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda heard: Say(404, {}, b"<html>not here</html>"))
    with client_for() as client, pytest.raises(StatusError, match="404"):
        client.repository(server.host, NAME).manifest("v1")


def test_loading_the_client_loads_no_requests() -> None:
    code = "import sys, imgbuild.registry.client, imgbuild.registry.credentials; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
