"""Who we are to each registry: docker's config.json, containers' auth.json, and credential helpers.

Both files have one form: ``auths`` (base64 of ``user:password``, or an identity token), ``credHelpers`` by registry and
``credsStore`` for all others. A helper is a program ``docker-credential-NAME`` with get, store and erase on its standard
input and output (github.com/docker/docker-credential-helpers). Not here: how credentials are sent (auth).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import subprocess
import tempfile
from typing import Any

from imgbuild.errors import AuthError, SettingsError
from imgbuild.hints import Iterator, Mapping, Sequence
from imgbuild.light import json, re
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.registry.endpoints import DOCKER_HUB_KEY, credential_key
from imgbuild.values import dataclass, field

_TOKEN_USER = "<token>"
_MAX_FILE = 4 << 20
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NOT_FOUND = ("credentials not found", "no credentials")


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or an identity token (an OAuth2 refresh token)."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        basic = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return tuple(secret for secret in (self.password, self.identity_token, basic if self.password else "") if secret)


class Credentials:
    """Credentials out of files, in the order in which they are asked; the first one is also written to.

    Files are read when asked for, so that a login elsewhere is seen; a missing one counts as empty.
    """

    def __init__(self, files: Sequence[Path] = (), *, helper_timeout: float = 30.0, environment: Mapping[str, str] | None = None) -> None:
        self._files = tuple(files)
        self._timeout = helper_timeout
        self._environment = None if environment is None else dict(environment)

    def get(self, registry: str, repository: str = "") -> Credential | None:
        """The credential for a registry (or, as podman allows, for a part of its repositories); None where there is none.

        AuthError where a helper is named that can't be run or fails.
        """
        for path in self._files:
            config = _load(path)
            helper = _helper_for(config, registry)
            found = self._helper_get(helper, registry) if helper is not None else _find_auth(config, registry, repository)
            if found is not None:
                return found
        return None

    def store(self, registry: str, credential: Credential) -> str:
        """Keep a credential, as a login does; returns where, in words. All other content of the file stays."""
        path = self._written_file()
        key = credential_key(registry)
        with _locked(path):
            config = _load(path)
            helper = _helper_for(config, registry)
            if helper is not None:
                secret = credential.identity_token or credential.password
                name = _TOKEN_USER if credential.identity_token else credential.username
                self._run_helper(helper, "store", json.dumps({"ServerURL": key, "Username": name, "Secret": secret}))
                return f"credential helper {helper}"
            auths = config.setdefault("auths", {})
            text = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
            auths[key] = {"auth": text, **({"identitytoken": credential.identity_token} if credential.identity_token else {})}
            _write(path, config)
            return str(path)

    def erase(self, registry: str) -> bool:
        """Forget what is kept for a registry, as a logout does; whether there was something."""
        path = self._written_file()
        with _locked(path):
            config = _load(path)
            helper = _helper_for(config, registry)
            known = helper is not None and self._helper_get(helper, registry) is not None
            if helper is not None and known:
                self._run_helper(helper, "erase", credential_key(registry))
            auths = config.get("auths", {})
            keys = [key for key in auths if _same_registry(key, registry)]
            for key in keys:
                del auths[key]
            if keys:
                _write(path, config)
            return known or bool(keys)

    def _written_file(self) -> Path:
        if not self._files:
            raise SettingsError("there is no file to keep credentials in", hint="set DOCKER_CONFIG or REGISTRY_AUTH_FILE")
        return self._files[0]

    def _helper_get(self, helper: str, registry: str) -> Credential | None:
        text = self._run_helper(helper, "get", credential_key(registry))
        if text is None:
            return None
        try:
            answer = json.loads(text)
            name, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise AuthError(f"the credential helper {helper} gave an answer that can't be read") from None
        return Credential("", identity_token=secret) if name == _TOKEN_USER else Credential(name, secret)

    def _run_helper(self, helper: str, action: str, text: str) -> str | None:
        """The helper's output; None where it says that it knows of nothing. What it was given is never shown."""
        if not _HELPER_NAME.fullmatch(helper):
            raise SettingsError("a credential helper's name has other characters than letters, digits, '.', '_' and '-'")
        program = f"docker-credential-{helper}"
        hint = "correct credsStore or credHelpers in the credentials file, or install the helper"
        try:
            done = subprocess.run(
                [program, action], input=text.encode(), capture_output=True, timeout=self._timeout, env=self._environment, check=False
            )
        except OSError as error:
            raise AuthError(f"can't run {program}: {error.strerror}", hint=hint) from None
        except subprocess.TimeoutExpired:
            raise AuthError(f"{program} {action} did not end within {self._timeout:g} s") from None
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace")
        said = (done.stdout + b" " + done.stderr).decode("utf-8", "replace").strip()
        if any(phrase in said.lower() for phrase in _NOT_FOUND):
            return None
        # A helper that fails may echo its input, or have begun its answer.
        detail = None if action == "store" or '"Secret"' in said else said[:500] or None
        raise AuthError(f"{program} {action} failed with status {done.returncode}", hint=hint, detail=detail)


def _helper_for(config: Mapping[str, Any], registry: str) -> str | None:
    for key, helper in config.get("credHelpers", {}).items():
        if _same_registry(key, registry) and isinstance(helper, str) and helper:
            return helper
    store = config.get("credsStore")
    return store if isinstance(store, str) and store else None


def _find_auth(config: Mapping[str, Any], registry: str, repository: str) -> Credential | None:
    auths = config.get("auths", {})
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        entry = auths.get("/".join((registry, *parts[:count])))
        if entry is not None and (found := _parse_auth(entry)) is not None:
            return found
    exact = [key for key in (credential_key(registry), registry) if key in auths]
    similar = [key for key in auths if _same_registry(key, registry)]
    for key in (*exact, *similar):
        if (found := _parse_auth(auths[key])) is not None:
            return found
    return None


def _same_registry(key: str, registry: str) -> bool:
    """Docker has written keys as hosts and as URLs; both mean the host. docker.io has several names."""
    if key == DOCKER_HUB_KEY:
        return credential_key(registry) == DOCKER_HUB_KEY
    scheme, separator, rest = key.partition("://")
    if separator and scheme not in ("http", "https"):
        return False
    host = rest.partition("/")[0] if separator else key
    return bool(host) and credential_key(host) == credential_key(registry)


def _parse_auth(entry: object) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    token = entry.get("identitytoken") or ""
    name, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    text = entry.get("auth")
    if isinstance(text, str) and text:
        try:
            decoded = base64.b64decode(text, validate=False).decode("utf-8").rstrip("\0")
        except (binascii.Error, ValueError):
            raise SettingsError("an entry of the credentials file is not base64", hint="log in again") from None
        name, _, password = decoded.partition(":")
    if token:
        return Credential(name, identity_token=str(token))
    return Credential(name, password) if name else None


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"can't read the credentials file {path}: {error.strerror}") from None
    if not data.strip():
        return {}
    try:
        config = json.loads(data) if len(data) <= _MAX_FILE else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise SettingsError(f"the credentials file {path} is not a JSON object")
    for key in ("auths", "credHelpers"):
        if config.get(key) is None:
            config.pop(key, None)
        elif not isinstance(config[key], dict):
            raise SettingsError(f"{key!r} in the credentials file {path} is not an object")
    return config


def _write(path: Path, config: Mapping[str, Any]) -> None:
    """Replace the file at once, readable by its owner only. A symlink is kept and its target replaced."""
    target = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(config, indent="\t", ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the file among imgbuild's own logins; its directory is made where it is missing."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"can't use the directory of the credentials file {path}: {error.strerror}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise SettingsError(f"can't write the credentials file {path}: {error.strerror}") from None
    finally:
        os.close(directory)
