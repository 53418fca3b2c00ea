"""Who we are is said to whom it concerns, and to nobody else."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from registry_mock.client import Mock

from imgbuild.errors import AuthError
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import OCI_LAYER, Descriptor
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.credentials import Credential
from imgbuild.registry.endpoints import RegistrySettings

from .support import FakeTime, Heard, Known, Say, Scripted, client_for

ME = Credential("me", "hush-hush")
USER = "me:hush-hush"
NAME = "team/app"


def blob(data: bytes) -> Descriptor:
    return Descriptor(OCI_LAYER, digest_of(data), len(data))


def push(client: RegistryClient, mock: Mock, data: bytes, name: str = NAME, mount_from: tuple[str, ...] = ()) -> str:
    return client.repository(mock.authority, name).push_blob(blob(data), lambda: io.BytesIO(data), mount_from=mount_from)


def said(error: AuthError) -> str:
    return f"{error.message} {error.hint} {error.detail}"


def paths(mock: Mock, *methods: str) -> list[str]:
    return [request["path"] for request in mock.requests() if not methods or request["method"] in methods]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_push_and_pull(start: Callable[..., Mock], scheme: str) -> None:
    mock = start("--auth", scheme, "--user", USER)
    with client_for(credential=ME) as client:
        assert push(client, mock, b"data") == "sent"
        got = client.repository(mock.authority, NAME).fetch_blob(blob(b"data"), b"".join)
    assert got == b"data"


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_wrong_and_missing_credentials(start: Callable[..., Mock], scheme: str) -> None:
    mock = start("--auth", scheme, "--user", USER)
    for credential in (None, Credential("me", "wrong-secret")):
        with client_for(credential=credential) as client, pytest.raises(AuthError) as caught:
            push(client, mock, b"data")
        assert f"imgbuild login {mock.authority}" in (caught.value.hint or "")
        assert "wrong-secret" not in said(caught.value)
    # Not tried for ever: a question which scheme, then once or twice.
    assert len(mock.requests()) < 14


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_reader_may_not_push(start: Callable[..., Mock], scheme: str) -> None:
    mock = start("--auth", scheme, "--user", USER, "--reader", "guest:guest-secret")
    with client_for(credential=Credential("guest", "guest-secret")) as client, pytest.raises(AuthError) as caught:
        push(client, mock, b"data")
    assert "403" in caught.value.message or "DENIED" in caught.value.message


def test_anonymous_pull_needs_no_login(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--user", USER, "--anonymous-pull")
    with client_for(credential=ME) as client:
        push(client, mock, b"data")
    with client_for() as client:
        assert client.repository(mock.authority, NAME).fetch_blob(blob(b"data"), b"".join) == b"data"


def test_one_token_serves_many_requests(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--user", USER)
    with client_for(credential=ME) as client:
        for number in range(5):
            push(client, mock, b"data %d" % number)
    assert paths(mock).count("/token") == 1


def test_a_token_is_renewed_when_it_ends(start: Callable[..., Mock], time: FakeTime) -> None:
    mock = start("--auth", "bearer", "--user", USER, "--token-seconds", "100")
    with client_for(credential=ME, time=time) as client:
        push(client, mock, b"1")
        time.passed += 80
        push(client, mock, b"2")
        assert paths(mock).count("/token") == 1
        time.passed += 20
        push(client, mock, b"3")
    assert paths(mock).count("/token") == 2


def test_a_mount_asks_for_both_repositories(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--user", USER)
    with client_for(credential=ME) as client:
        push(client, mock, b"data", "other/app")
        assert push(client, mock, b"data", mount_from=("other/app",)) == "mounted"
    (query,) = [request["query"] for request in mock.requests() if request["path"] == "/token" and "other" in request["query"]][-1:]
    assert set(parse_qs(query)["scope"]) == {"repository:other/app:pull", "repository:team/app:pull,push"}


def test_login(start: Callable[..., Mock]) -> None:
    for scheme in ("none", "basic", "bearer"):
        mock = start("--auth", scheme, "--user", USER)
        with client_for() as client:
            client.login(mock.authority, ME)
            if scheme != "none":
                with pytest.raises(AuthError):
                    client.login(mock.authority, Credential("me", "wrong"))


def test_an_identity_token_is_posted(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--user", USER)
    basic = "Basic " + base64.b64encode(USER.encode()).decode()
    answer = mock.call("GET", "/token?service=registry-mock&offline_token=true", Authorization=basic)
    with client_for(credential=Credential("", identity_token=answer.json["refresh_token"])) as client:
        assert push(client, mock, b"data") == "sent"
    assert ("POST", "/token") in [(request["method"], request["path"]) for request in mock.requests()]


def test_a_helper_that_fails_matters_only_where_a_login_is_needed(start: Callable[..., Mock]) -> None:
    class Broken(Known):
        def get(self, registry: str, repository: str = "") -> Credential | None:
            raise AuthError("can't run docker-credential-x")

    mock = start("--auth", "bearer", "--user", USER, "--anonymous-pull")
    with client_for(credential=ME) as client:
        push(client, mock, b"data")
    with RegistryClient(RegistrySettings(), Broken(), clock=FakeTime().clock()) as client:
        client.repository(mock.authority, NAME).fetch_blob(blob(b"data"), b"".join)
        with pytest.raises(AuthError) as caught:
            push(client, mock, b"more")
    assert "docker-credential-x" in said(caught.value)


def test_a_token_server_that_is_busy(start: Callable[..., Mock], time: FakeTime) -> None:
    mock = start("--auth", "bearer", "--user", USER)
    mock.fault(do="status", status=503, path="/token", retry_after="3")
    with client_for(credential=ME, time=time) as client:
        push(client, mock, b"data")
    assert time.slept == [3]


def test_a_redirect_to_elsewhere_carries_no_credentials(scripted: Callable[..., Scripted]) -> None:
    storage = scripted(lambda heard: Say(200, {}, b"data"))

    def answer(heard: Heard) -> Say:
        if "authorization" not in heard.headers:
            return Say(401, {"WWW-Authenticate": 'Basic realm="x"'})
        return Say(307, {"Location": f"{storage.url}/bucket/blob?signature=s3cr3t"})

    registry = scripted(answer)
    with client_for(credential=ME) as client:
        got = client.repository(registry.host, NAME).fetch_blob(blob(b"data"), b"".join)
    assert got == b"data"
    assert [heard.path for heard in storage.heard] == ["/bucket/blob?signature=s3cr3t"]
    assert all("authorization" not in heard.headers for heard in storage.heard)


def test_a_redirect_on_the_same_host_keeps_them(scripted: Callable[..., Scripted]) -> None:
    def answer(heard: Heard) -> Say:
        if "authorization" not in heard.headers:
            return Say(401, {"WWW-Authenticate": 'Basic realm="x"'})
        return Say(200, {}, b"data") if heard.path == "/moved" else Say(302, {"Location": "/moved"})

    registry = scripted(answer)
    with client_for(credential=ME) as client:
        assert client.repository(registry.host, NAME).fetch_blob(blob(b"data"), b"".join) == b"data"


def test_a_challenge_of_elsewhere_is_not_answered(scripted: Callable[..., Scripted]) -> None:
    thief = scripted(lambda heard: Say(401, {"WWW-Authenticate": 'Basic realm="give"'}))
    registry = scripted(lambda heard: Say(307, {"Location": f"{thief.url}/"}) if "/blobs/" in heard.path else Say())
    with client_for(credential=ME) as client, pytest.raises(AuthError) as caught:
        client.repository(registry.host, NAME).fetch_blob(blob(b"data"), b"".join)
    assert all("authorization" not in heard.headers for heard in (*thief.heard, *registry.heard))
    assert "hush" not in said(caught.value)


def test_an_upload_elsewhere_carries_no_credentials(scripted: Callable[..., Scripted]) -> None:
    storage = scripted(lambda heard: Say(201))

    def answer(heard: Heard) -> Say:
        if "authorization" not in heard.headers:
            return Say(401, {"WWW-Authenticate": 'Basic realm="x"'})
        return Say(202, {"Location": f"{storage.url}/put?sig=abc&x=%2F"})

    registry = scripted(answer)
    with client_for(credential=ME) as client:
        client.repository(registry.host, NAME).push_blob(blob(b"data"), lambda: io.BytesIO(b"data"))
    (put,) = storage.heard
    assert "authorization" not in put.headers and put.body == b"data"
    # Its own query stays as it was.
    assert put.path.startswith("/put?sig=abc&x=%2F&digest=sha256%3A")


def test_the_realm_gets_the_password_by_basic_and_nothing_else_does(scripted: Callable[..., Scripted]) -> None:
    tokens = scripted(lambda heard: Say(200, {}, json.dumps({"access_token": "tok-12345", "expires_in": 300}).encode()))

    def answer(heard: Heard) -> Say:
        if heard.headers.get("authorization") == "Bearer tok-12345":
            return Say(500, {}, b'{"errors": [{"code": "X", "message": "token tok-12345 at https://u:p@x/?sig=1"}]}')
        return Say(401, {"WWW-Authenticate": f'Bearer realm="{tokens.url}/t?a=b",service="s",scope="repository:team/app:pull"'})

    registry = scripted(answer)
    with client_for(RegistrySettings(attempts=1), ME) as client, pytest.raises(Exception) as caught:
        client.repository(registry.host, NAME).manifest("v1")
    assert "tok-12345" not in str(caught.value) and "sig=1" not in str(caught.value)
    (asked,) = tokens.heard
    assert parse_qs(urlsplit(asked.path).query) == {"a": ["b"], "service": ["s"], "scope": ["repository:team/app:pull"], "account": ["me"]}
    assert asked.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("realm", ["ftp://x/", "nonsense", "http://user:pw@x/", ""])
def test_an_unusable_realm(scripted: Callable[..., Scripted], realm: str) -> None:
    registry = scripted(lambda heard: Say(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}))
    with client_for(credential=ME) as client, pytest.raises(AuthError):
        client.repository(registry.host, NAME).manifest("v1")


def test_an_unknown_scheme(scripted: Callable[..., Scripted]) -> None:
    registry = scripted(lambda heard: Say(401, {"WWW-Authenticate": "Negotiate"}))
    with client_for(credential=ME) as client, pytest.raises(AuthError):
        client.repository(registry.host, NAME).manifest("v1")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": "a b\\nc"}', b'{"token": 1}'])
def test_a_token_server_that_talks_nonsense(scripted: Callable[..., Scripted], body: bytes) -> None:
    def answer(heard: Heard) -> Say:
        if heard.path.startswith("/token"):
            return Say(200, {}, body)
        return Say(401, {"WWW-Authenticate": f'Bearer realm="http://{heard.headers["host"]}/token"'})

    registry = scripted(answer)
    with client_for(credential=ME) as client, pytest.raises(Exception, match="token"):
        client.repository(registry.host, NAME).manifest("v1")


def test_a_token_that_never_helps_ends(scripted: Callable[..., Scripted]) -> None:
    def answer(heard: Heard) -> Say:
        if heard.path.startswith("/token"):
            return Say(200, {}, b'{"token": "t0k3n"}')
        return Say(401, {"WWW-Authenticate": f'Bearer realm="http://{heard.headers["host"]}/token"'})

    registry = scripted(answer)
    with client_for(credential=ME) as client, pytest.raises(AuthError):
        client.repository(registry.host, NAME).manifest("v1")
    assert len(registry.heard) < 10
