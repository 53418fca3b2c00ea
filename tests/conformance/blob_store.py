"""What every blob store must do. A test class derives from `BlobStoreSuite` and provides the fixture `blobs`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from imgbuild.errors import CorruptError
from imgbuild.oci.digest import Digest, digest_of
from imgbuild.store.blobs import Blobs

DATA = b"some bytes" * 1000
ABSENT = Digest("sha256:" + "0" * 64)


class BlobStoreSuite:
    def test_what_was_put_is_there(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        assert digest == digest_of(DATA)
        assert blobs.has(digest)
        assert blobs.has(digest, len(DATA))
        assert not blobs.has(digest, len(DATA) - 1)
        assert blobs.size(digest) == len(DATA)
        assert blobs.read(digest) == DATA
        assert blobs.path(digest).read_bytes() == DATA
        with blobs.open(digest) as stream:
            assert stream.read() == DATA
        blobs.verify(digest)
        assert list(blobs) == [digest]

    def test_the_empty_blob(self, blobs: Blobs) -> None:
        digest = blobs.put(b"")
        assert blobs.read(digest) == b""
        blobs.verify(digest)

    def test_what_was_not_put_is_missing(self, blobs: Blobs) -> None:
        assert not blobs.has(ABSENT)
        for use in (blobs.open, blobs.read, blobs.size, blobs.verify, blobs.verified):
            with pytest.raises(CorruptError, match=f"{ABSENT} is missing") as caught:
                use(ABSENT)
            assert "imgbuild fsck --repair" in (caught.value.hint or "")
        blobs.remove(ABSENT)

    def test_writing_in_pieces(self, blobs: Blobs) -> None:
        with blobs.writer() as writer:
            for piece in (DATA[:7], bytearray(DATA[7:100]), memoryview(DATA)[100:]):
                writer.write(piece)
            assert writer.size == len(DATA)
            assert writer.digest == digest_of(DATA)
            assert not blobs.has(digest_of(DATA))
            writer.commit(digest_of(DATA), len(DATA))
        assert blobs.read(digest_of(DATA)) == DATA

    def test_leaving_without_commit_discards(self, blobs: Blobs) -> None:
        with blobs.writer() as writer:
            writer.write(DATA)
            path = writer.path
        assert not path.exists()
        assert list(blobs) == []

    def test_another_digest_or_size_is_refused(self, blobs: Blobs) -> None:
        for expected, size in ((ABSENT, None), (digest_of(DATA), 1)):
            with blobs.writer() as writer:
                writer.write(DATA)
                with pytest.raises(CorruptError):
                    writer.commit(expected, size)
        assert list(blobs) == []

    def test_committing_twice_is_a_mistake(self, blobs: Blobs) -> None:
        with blobs.writer() as writer:
            writer.commit()
            with pytest.raises(ValueError, match="already"):
                writer.commit()

    def test_a_caller_that_hashes_by_itself(self, blobs: Blobs) -> None:
        with blobs.writer(hashing=False) as writer:
            writer.write(DATA)
            with pytest.raises(ValueError, match="does not hash"):
                _ = writer.digest
            writer.commit_as(digest_of(DATA))
        assert blobs.read(digest_of(DATA)) == DATA

    def test_writing_to_the_path_by_oneself(self, blobs: Blobs) -> None:
        with blobs.writer(hashing=False) as writer:
            writer.path.write_bytes(DATA)
            writer.commit_as(digest_of(DATA))
        assert blobs.has(digest_of(DATA), len(DATA))

    def test_another_algorithm(self, blobs: Blobs) -> None:
        expected = Digest("sha512:" + hashlib.sha512(DATA).hexdigest())
        with blobs.writer(algorithm="sha512") as writer:
            writer.write(DATA)
            assert writer.commit(expected) == expected
        assert blobs.read(expected) == DATA
        blobs.make_durable([expected])
        assert list(blobs) == [expected]

    def test_changed_bytes_are_seen(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        _overwrite(blobs.path(digest), DATA[:-1] + b"!")
        for use in (blobs.read, blobs.verify):
            with pytest.raises(CorruptError, match=digest):
                use(digest)
        with blobs.verified(digest) as stream:
            assert stream.read(len(DATA)) == DATA[:-1] + b"!"
            with pytest.raises(CorruptError, match="another digest"):
                stream.read(1)

    def test_a_truncated_blob_is_seen_and_written_again(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        _overwrite(blobs.path(digest), DATA[:10])
        with pytest.raises(CorruptError):
            blobs.read(digest)
        blobs.put(DATA)
        assert blobs.read(digest) == DATA

    def test_reading_stops_at_the_limit(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        assert blobs.read(digest, len(DATA)) == DATA
        with pytest.raises(CorruptError, match="longer"):
            blobs.read(digest, len(DATA) - 1)

    def test_verified_reading_in_one_and_in_pieces(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        with blobs.verified(digest) as stream:
            assert stream.read() == DATA
        buffer = bytearray(777)
        with blobs.verified(digest) as stream:
            found = b""
            while count := stream.readinto(buffer):
                found += buffer[:count]
        assert found == DATA

    def test_putting_twice_keeps_the_first(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        inode = os.stat(blobs.path(digest)).st_ino
        assert blobs.put(DATA) == digest
        assert os.stat(blobs.path(digest)).st_ino == inode

    def test_removing(self, blobs: Blobs) -> None:
        digest = blobs.put(DATA)
        blobs.flush()
        with blobs.open(digest) as stream:
            blobs.remove(digest)
            assert stream.read() == DATA
        assert list(blobs) == []


def _overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)
