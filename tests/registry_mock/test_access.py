"""Basic and Bearer: who is let in, and what the others are told."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from .client import Answer, Mock, basic, digest_of

USERS = ("--user", "ann:secret:with:colons", "--reader", "ray:pw")
ANN = basic("ann", "secret:with:colons")
RAY = basic("ray", "pw")
BLOB = f"/v2/a/blobs/{digest_of(b'x')}"
UPLOADS = f"/v2/a/blobs/uploads/?digest={digest_of(b'x')}"
FORM = "application/x-www-form-urlencoded"


def token(mock: Mock, scope: str = "", authorization: str = "", **query: str) -> Answer:
    parameters = urlencode({"service": "registry-mock"} | ({"scope": scope} if scope else {}) | query)
    headers = {"Authorization": authorization} if authorization else {}
    return mock.call("GET", f"/token?{parameters}", None, **headers)


def bearer(mock: Mock, scope: str, authorization: str = "") -> str:
    answer = token(mock, scope, authorization)
    assert answer.status == 200, answer
    return "Bearer " + str(answer.json["token"])


def challenge(answer: Answer) -> dict[str, str]:
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    scheme, _, parameters = answer.headers["WWW-Authenticate"].partition(" ")
    return {"scheme": scheme} | dict(re.findall(r'(\w+)="([^"]*)"', parameters))


def test_basic(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "basic", *USERS)
    for path in ("/v2/", BLOB, "/v2/_catalog"):
        assert challenge(mock.call("GET", path)) == {"scheme": "Basic", "realm": "registry-mock"}
    for bad in (basic("ann", "wrong"), basic("nobody", "pw"), "Basic !", "Bearer x", ""):
        assert mock.call("GET", "/v2/", Authorization=bad).status == 401
    assert mock.call("GET", "/v2/", Authorization=ANN).status == 200
    assert mock.call("POST", UPLOADS, b"x", Authorization=ANN).status == 201
    assert mock.call("GET", BLOB, Authorization=RAY).body == b"x"
    refused = mock.call("POST", UPLOADS, b"x", Authorization=RAY)
    assert (refused.status, refused.codes) == (403, ["DENIED"])
    assert mock.call("DELETE", BLOB, Authorization=RAY).status == 403
    assert mock.call("DELETE", BLOB, Authorization=ANN).status == 202


def test_basic_with_anonymous_pull(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "basic", "--anonymous-pull", *USERS)
    mock.call("POST", UPLOADS, b"x", Authorization=ANN)
    assert mock.call("GET", BLOB).body == b"x"
    assert mock.call("GET", BLOB, Authorization=basic("ann", "wrong")).status == 401
    assert challenge(mock.call("POST", UPLOADS, b"x"))["scheme"] == "Basic"


def test_bearer_challenges(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--service", "a service", *USERS)
    where = {"scheme": "Bearer", "realm": f"{mock.url}/token", "service": "a service"}
    assert challenge(mock.call("GET", "/v2/")) == where
    assert challenge(mock.call("GET", BLOB)) == where | {"scope": "repository:a:pull"}
    assert challenge(mock.call("POST", UPLOADS, b"x")) == where | {"scope": "repository:a:pull,push"}
    assert challenge(mock.call("DELETE", BLOB)) == where | {"scope": "repository:a:delete"}
    assert challenge(mock.call("GET", "/v2/_catalog")) == where | {"scope": "registry:catalog:*"}
    assert challenge(mock.call("GET", "/v2/", Authorization="Bearer x.y"))["error"] == "invalid_token"
    assert "error" not in challenge(mock.call("GET", "/v2/", Authorization=ANN))


def test_bearer(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", *USERS)
    push = bearer(mock, "repository:a:pull,push", ANN)
    assert mock.call("GET", "/v2/", Authorization=push).status == 200
    assert mock.call("POST", UPLOADS, b"x", Authorization=push).status == 201
    assert mock.call("GET", BLOB, Authorization=push).body == b"x"
    insufficient = mock.call("GET", BLOB.replace("/a/", "/b/"), Authorization=push)
    assert challenge(insufficient)["error"] == "insufficient_scope"
    assert challenge(mock.call("DELETE", BLOB, Authorization=push))["scope"] == "repository:a:delete"
    catalog = bearer(mock, "registry:catalog:*", ANN)
    assert mock.call("GET", "/v2/_catalog", Authorization=catalog).json == {"repositories": ["a"]}
    assert mock.call("DELETE", BLOB, Authorization=bearer(mock, "repository:a:delete", ANN)).status == 202


def test_a_right_that_was_asked_for_and_not_given_is_denied(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", *USERS)
    answer = token(mock, "repository:a:pull,push", RAY).json
    assert answer["scope"] == "repository:a:pull"
    refused = mock.call("POST", UPLOADS, b"x", Authorization="Bearer " + answer["token"])
    assert (refused.status, refused.codes) == (403, ["DENIED"])


def test_anonymous_tokens(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--anonymous-pull", *USERS)
    mock.call("POST", UPLOADS, b"x", Authorization=bearer(mock, "repository:a:push", ANN))
    assert mock.call("GET", BLOB).status == 401
    assert mock.call("GET", BLOB, Authorization=bearer(mock, "repository:a:pull")).body == b"x"
    refused = mock.call("POST", UPLOADS, b"x", Authorization=bearer(mock, "repository:a:pull,push"))
    assert challenge(refused)["error"] == "insufficient_scope"


def test_several_scopes_and_the_source_of_a_mount(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", *USERS)
    mock.call("POST", UPLOADS, b"x", Authorization=bearer(mock, "repository:a:push", ANN))
    mount = f"/v2/b/blobs/uploads/?mount={digest_of(b'x')}"
    only = bearer(mock, "repository:b:pull,push", ANN)
    assert mock.call("POST", mount + "&from=a", Authorization=only).status == 202
    assert mock.call("POST", mount, Authorization=only).status == 202
    parameters = urlencode([("scope", "repository:b:pull,push"), ("scope", "registry:catalog:* repository:a:pull")])
    both = "Bearer " + mock.call("GET", f"/token?{parameters}", Authorization=ANN).json["token"]
    assert mock.call("POST", mount + "&from=a", Authorization=both).status == 201


def test_token_endpoint(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--token-seconds", "77", *USERS)
    answer = token(mock, "repository:a:pull", ANN).json
    assert answer["token"] == answer["access_token"]
    assert answer["expires_in"] == 77
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer["issued_at"])
    assert "refresh_token" not in answer
    assert token(mock).status == 401
    assert token(mock, "", basic("ann", "wrong")).status == 401
    assert token(mock, "", ANN, service="other").status == 400
    assert mock.call("PUT", "/token").status == 405


def test_oauth(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", *USERS)

    def post(**form: str) -> Any:
        return mock.call("POST", "/token", urlencode(form).encode(), Content_Type=FORM)

    wanted = {"service": "registry-mock", "scope": "repository:a:pull,push", "client_id": "test"}
    first = post(grant_type="password", username="ann", password="secret:with:colons", access_type="offline", **wanted).json
    assert first["scope"] == "repository:a:pull,push"
    again = post(grant_type="refresh_token", refresh_token=first["refresh_token"], **wanted).json
    assert mock.call("POST", UPLOADS, b"x", Authorization=f"Bearer {again['access_token']}").status == 201
    assert token(mock, "", ANN, offline_token="true").json["refresh_token"]
    assert post(grant_type="password", username="ann", password="wrong", **wanted).status == 401
    assert post(grant_type="refresh_token", refresh_token=again["access_token"], **wanted).status == 401
    assert post(grant_type="magic", **wanted).status == 400
    assert mock.call("GET", "/v2/", Authorization=f"Bearer {first['refresh_token']}").status == 401


@pytest.mark.parametrize("seconds", ["0", "-1"])
def test_expired_token(start: Callable[..., Mock], seconds: str) -> None:
    mock = start("--auth", "bearer", "--token-seconds", seconds, *USERS)
    answer = mock.call("GET", BLOB, Authorization=bearer(mock, "repository:a:pull", ANN))
    assert challenge(answer)["error"] == "invalid_token"


def test_a_token_that_was_tampered_with(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", *USERS)
    _, _, value = bearer(mock, "repository:a:pull", ANN).partition(" ")
    claims, _, signature = value.partition(".")
    for bad in (f"{claims}A.{signature}", f"{claims}.", claims, f"{claims}.{signature[::-1]}", "é"):
        assert mock.call("GET", BLOB, Authorization=f"Bearer {bad}").status == 401
