"""Which endpoint a path means, and what right a method on it needs. Pure.

distribution-spec 1.1, "Endpoints". A repository name may itself hold a component `blobs` or `manifests`, so the last
such component decides; the pattern of the name is greedy for that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote

from errors import unknown, unsupported
from names import parse_name

# The rights of token scopes: https://distribution.github.io/distribution/spec/auth/scope/
PULL, PUSH, DELETE, CATALOG = "pull", "push", "delete", "*"


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint with its variables; `argument` is the reference, the digest or the upload, as written."""

    kind: str
    name: str
    argument: str
    right: str


@dataclass(frozen=True, slots=True)
class _Endpoint:
    kind: str
    pattern: re.Pattern[str]
    rights: Mapping[str, str]


def _endpoint(kind: str, pattern: str, **rights: str) -> _Endpoint:
    return _Endpoint(kind, re.compile(pattern), MappingProxyType(rights))


_ENDPOINTS = (
    _endpoint("base", r"/v2/?", GET="", HEAD=""),
    _endpoint("catalog", r"/v2/_catalog", GET=CATALOG),
    _endpoint("tags", r"/v2/(?P<name>.+)/tags/list", GET=PULL),
    _endpoint("uploads", r"/v2/(?P<name>.+)/blobs/uploads/", POST=PUSH),
    # Asking how far an upload has come is a part of pushing.
    _endpoint("upload", r"/v2/(?P<name>.+)/blobs/uploads/(?P<argument>[^/]+)", GET=PUSH, PATCH=PUSH, PUT=PUSH, DELETE=PUSH),
    _endpoint("blob", r"/v2/(?P<name>.+)/blobs/(?P<argument>[^/]+)", GET=PULL, HEAD=PULL, DELETE=DELETE),
    _endpoint("manifest", r"/v2/(?P<name>.+)/manifests/(?P<argument>[^/]+)", GET=PULL, HEAD=PULL, PUT=PUSH, DELETE=DELETE),
    _endpoint("referrers", r"/v2/(?P<name>.+)/referrers/(?P<argument>[^/]+)", GET=PULL),
)


def find(method: str, path: str) -> Route:
    """The route of a request; 404 for a path that is no endpoint, 405 for a method that the endpoint has not."""
    decoded = unquote(path)
    for endpoint in _ENDPOINTS:
        match = endpoint.pattern.fullmatch(decoded)
        if match is None:
            continue
        right = endpoint.rights.get(method)
        if right is None:
            allow = (("Allow", ", ".join(endpoint.rights)),)
            raise unsupported(f"{method} is not supported here", 405, allow)
        found = match.groupdict()
        name = parse_name(found["name"]) if "name" in found else ""
        return Route(endpoint.kind, name, found.get("argument") or "", right)
    raise unknown(404, "no such endpoint")
