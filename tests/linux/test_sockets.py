"""Messages and descriptors between our own processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from imgbuild.linux import sockets


@pytest.mark.parametrize("kind", [sockets.STREAM, sockets.PACKETS])
def test_bytes_and_descriptors_arrive(kind: int) -> None:
    ours, theirs = sockets.pair(kind)
    read_end, write_end = os.pipe()
    with ours, theirs:
        assert sockets.send(ours, b"word", (read_end, write_end)) == 4
        data, fds = sockets.receive(theirs, 100, 4)
        assert (data, len(fds)) == (b"word", 2)
        assert not any(os.get_inheritable(fd) for fd in (*fds, ours.fileno(), theirs.fileno()))
        os.write(fds[1], b"x")
        assert os.read(read_end, 1) == b"x"
    for fd in (*fds, read_end, write_end):
        os.close(fd)


def test_all_of_it_is_waited_for_where_that_is_asked() -> None:
    ours, theirs = sockets.pair(sockets.STREAM)
    with ours, theirs:
        sockets.send_all(ours, b"ab")
        sockets.send_all(ours, b"cd")
        assert sockets.receive(theirs, 3, 0, whole=True) == (b"abc", [])
        ours.close()
        assert sockets.receive(theirs, 3, 0) == (b"d", [])
        assert sockets.receive(theirs, 3, 0) == (b"", [])


def test_nobody_there_is_an_error_and_no_signal() -> None:
    ours, theirs = sockets.pair(sockets.PACKETS)
    with ours:
        theirs.close()
        with pytest.raises(BrokenPipeError):
            sockets.send(ours, b"x")


def test_a_descriptor_is_taken_over() -> None:
    ours, theirs = sockets.pair(sockets.STREAM)
    with ours, sockets.opened(theirs.detach()) as again:
        sockets.send_all(again, b"x")
        assert sockets.receive(ours, 1, 0) == (b"x", [])
    assert again.fileno() == -1


def test_the_standard_module_is_not_imported() -> None:
    code = "import sys, imgbuild.sandbox.zygote; print({'socket', 'selectors', 'dataclasses', 'typing'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
