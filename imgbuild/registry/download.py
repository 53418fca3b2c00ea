"""A blob on its way in: resumed after a cut, never longer than was said. What its bytes are is verified by who keeps them."""

from __future__ import annotations

from imgbuild.errors import CorruptError
from imgbuild.hints import Iterator
from imgbuild.oci.image import Descriptor
from imgbuild.registry.auth import Scopes
from imgbuild.registry.exchange import Exchange
from imgbuild.registry.problems import UnreachableError, broken_protocol
from imgbuild.registry.transport import Reply

CHUNK = 1 << 20
_PROGRESS = 64 << 10


def blob_chunks(exchange: Exchange, path: str, blob: Descriptor, scopes: Scopes, attempts: int) -> Iterator[bytes]:
    """The bytes of a blob. Ends with exactly `blob.size` bytes, or raises; reads at most one byte more than that.

    `attempts` cuts in a row that brought hardly anything end it.
    """
    what = f"fetching the blob {blob.digest}"
    done, failures = 0, 0
    while True:
        before = done
        headers = {"Range": f"bytes={done}-{blob.size - 1}"} if done else {}
        reply = exchange.request(what, "GET", path, ok=(200, 206), scopes=scopes, headers=headers)
        with reply:
            skip = _skipped(exchange, what, reply, blob, done)
            try:
                for part in _parts(reply, blob, done, skip):
                    done += len(part)
                    yield part
                if done == blob.size:
                    return
                problem = f"the answer of {exchange.host} ended after {done} of {blob.size} bytes"
            except UnreachableError as error:
                problem = error.message
        failures = 1 if done - before >= _PROGRESS else failures + 1
        if failures >= attempts:
            raise UnreachableError(f"{what} failed: {problem}", hint="try again; what has arrived of other blobs is kept")
        exchange.pause(failures, problem)


def _skipped(exchange: Exchange, what: str, reply: Reply, blob: Descriptor, done: int) -> int:
    """How much of the answer we have already: all of `done` where the server does not do ranges."""
    if reply.status == 206:
        said = reply.header("Content-Range").strip()
        if not said.startswith(f"bytes {done}-"):
            raise broken_protocol(exchange.asked(what), f"asked for bytes from {done}, it sent {said[:60] or 'no Content-Range'!r}")
        expected, skip = blob.size - done, 0
    else:
        expected, skip = blob.size, done
    if reply.length is not None and reply.length != expected:
        total = reply.length + blob.size - expected
        raise CorruptError(
            f"the blob {blob.digest} has {total} bytes at {exchange.host}, but {blob.size} in its manifest",
            hint="the image is damaged there; it must be pushed again",
        )
    return skip


def _parts(reply: Reply, blob: Descriptor, done: int, skip: int) -> Iterator[bytes]:
    while skip:
        part = reply.read(min(CHUNK, skip))
        if not part:
            return
        skip -= len(part)
    left = blob.size - done
    while part := reply.read(min(CHUNK, left + 1)):
        left -= len(part)
        if left < 0:
            raise CorruptError(
                f"the blob {blob.digest} is longer than the {blob.size} bytes in its manifest",
                hint="the image is damaged there; it must be pushed again",
            )
        yield part
