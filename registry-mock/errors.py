"""The error values of the protocol: a status, a code of the spec's table, a message and a detail.

distribution-spec 1.1, "Error Codes". Raised anywhere, turned into a response in one place (`exchange`).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of the `errors` list of a response body."""

    code: str
    message: str
    detail: object = None

    def as_json(self) -> dict[str, object]:
        """The entry in the spec's form; `detail` is optional and left out when there is none."""
        entry: dict[str, object] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            entry["detail"] = self.detail
        return entry


class RegistryError(Exception):
    """A refusal that the client is told about."""

    def __init__(self, status: int, problems: Iterable[Problem], headers: Headers = ()) -> None:
        self.status = status
        self.problems = tuple(problems)
        self.headers = headers
        super().__init__("; ".join(f"{problem.code}: {problem.message}" for problem in self.problems))

    def body(self) -> bytes:
        """The JSON document of the spec."""
        return json.dumps({"errors": [problem.as_json() for problem in self.problems]}).encode()


def _error(status: int, code: str, message: str, detail: object = None, headers: Headers = ()) -> RegistryError:
    return RegistryError(status, [Problem(code, message, detail)], headers)


def blob_unknown(digest: object) -> RegistryError:
    return _error(404, "BLOB_UNKNOWN", "blob unknown to registry", {"digest": str(digest)})


def upload_unknown(upload: str) -> RegistryError:
    return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"upload": upload})


def upload_invalid(message: str) -> RegistryError:
    return _error(400, "BLOB_UPLOAD_INVALID", message)


def range_unsatisfiable(message: str, headers: Headers) -> RegistryError:
    # The spec has no code for 416; BLOB_UPLOAD_INVALID is the nearest and is what a client may print.
    return _error(416, "BLOB_UPLOAD_INVALID", message, headers=headers)


def digest_invalid(digest: object, why: str) -> RegistryError:
    return _error(400, "DIGEST_INVALID", f"provided digest did not match uploaded content: {why}", {"digest": str(digest)})


def size_invalid(message: str, detail: object = None) -> RegistryError:
    return _error(400, "SIZE_INVALID", message, detail)


def manifest_unknown(reference: object) -> RegistryError:
    return _error(404, "MANIFEST_UNKNOWN", "manifest unknown to registry", {"reference": str(reference)})


def manifest_invalid(message: str, detail: object = None) -> RegistryError:
    return _error(400, "MANIFEST_INVALID", f"manifest invalid: {message}", detail)


def manifest_too_large(limit: int) -> RegistryError:
    # distribution-spec 1.1, "Pushing Manifests": "If the registry has a limit, it SHOULD respond with 413".
    return _error(413, "MANIFEST_INVALID", f"manifest invalid: larger than {limit} bytes")


def manifest_blobs_unknown(digests: Iterable[object]) -> RegistryError:
    """One problem for each thing that a manifest names and the repository does not have."""
    message = "manifest references a manifest or blob unknown to registry"
    # distribution-spec 1.1, "Endpoints": end-7 fails with 404.
    return RegistryError(404, [Problem("MANIFEST_BLOB_UNKNOWN", message, {"digest": str(digest)}) for digest in digests])


def name_invalid(name: str) -> RegistryError:
    return _error(400, "NAME_INVALID", "invalid repository name", {"name": name})


def name_unknown(name: str) -> RegistryError:
    return _error(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})


def unauthorized(message: str, challenge: str) -> RegistryError:
    return _error(401, "UNAUTHORIZED", message, headers=(("WWW-Authenticate", challenge),))


def denied(message: str) -> RegistryError:
    return _error(403, "DENIED", message)


def unsupported(message: str, status: int = 400, headers: Headers = ()) -> RegistryError:
    return _error(status, "UNSUPPORTED", message, headers=headers)


def too_many_requests(headers: Headers) -> RegistryError:
    return _error(429, "TOOMANYREQUESTS", "too many requests", headers=headers)


def unknown(status: int, message: str, headers: Headers = ()) -> RegistryError:
    """For a status to which the spec gives no code."""
    return _error(status, "UNKNOWN", message, headers=headers)
