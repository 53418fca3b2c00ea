"""Pumps and the loop that works them, on pipes and terminals without a container."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from imgbuild.runtime.relay import Pump, Relay


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def never() -> bool:
    return False


class Scene:
    """Pipes by name, and an end that can be brought about. All is closed with the context."""

    def __init__(self) -> None:
        self.pipes: list[int] = []
        self.ended, self.ending = self.pipe()

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        self.pipes += ends
        return ends

    def close(self, descriptor: int) -> None:
        os.close(descriptor)
        self.pipes.remove(descriptor)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.pipes:
            os.close(descriptor)

    def relay(self, *outputs: Pump, signals: int | None = None, on_signals: Callable[[], bool] = never) -> Relay:
        return Relay(self.ended, outputs, (), signals, on_signals)


def test_all_that_was_written_before_the_end_arrives() -> None:
    with Scene() as scene:
        (read_end, write_end), (shown, sink) = scene.pipe(), scene.pipe()
        tapped = bytearray()
        data = bytes(range(256)) * 150
        os.write(write_end, data)
        scene.close(scene.ending)
        relay = scene.relay(Pump(read_end, sink, tapped.extend))
        worker = threading.Thread(target=relay.run)
        worker.start()
        got = bytearray()
        while len(got) < len(data):
            got += os.read(shown, 1000)
        worker.join(60)
        assert not worker.is_alive()
        assert bytes(got) == bytes(tapped) == data


def test_a_writer_that_never_closes_does_not_hold_the_end() -> None:
    with Scene() as scene:
        (read_end, write_end), (shown, sink) = scene.pipe(), scene.pipe()
        os.write(write_end, b"before")
        scene.close(scene.ending)
        scene.relay(Pump(read_end, sink)).run()
        assert os.read(shown, 100) == b"before"


def test_a_sink_without_a_reader_stops_the_source_or_only_the_showing() -> None:
    with Scene() as scene:
        for tap, closed in ((None, True), (bytearray().extend, False)):
            (read_end, write_end), (shown, sink) = scene.pipe(), scene.pipe()
            scene.close(shown)
            stopped: list[bool] = []
            pump = Pump(read_end, sink, tap, close_source=lambda stopped=stopped: stopped.append(True))  # type: ignore[misc]
            os.write(write_end, b"x")
            pump.step()
            pump.step()
            assert stopped == [True] * closed
            assert pump.idle == closed


@pytest.mark.parametrize("kept", [False, True], ids=["closed", "kept open"])
def test_all_that_was_written_to_a_terminal_comes_before_its_end(kept: bool) -> None:
    """Also where somebody else stays in it, so that the terminal itself never ends; and however soon after the writing."""
    for _ in range(200):
        master, slave = os.openpty()
        with Scene() as scene:
            scene.pipes.append(master)
            (shown, sink) = scene.pipe()
            os.write(slave, b"x" * 3000 + b"last words\n")
            if kept:
                scene.pipes.append(slave)
            else:
                os.close(slave)
            scene.close(scene.ending)
            scene.relay(Pump(master, sink)).run()
            assert os.read(shown, 4096) == b"x" * 3000 + b"last words\r\n"


def test_signals_are_heard_while_nobody_reads() -> None:
    with Scene() as scene:
        (read_end, write_end), (_, sink), (signals, sender) = scene.pipe(), scene.pipe(), scene.pipe()
        os.set_blocking(sink, False)
        with pytest.raises(BlockingIOError):
            write_all(sink, b"x" * (1 << 22))
        os.set_blocking(sink, True)
        os.write(write_end, b"y")
        scene.close(scene.ending)
        os.write(sender, b"ss")  # one for the process, one that means us

        def hear() -> bool:
            return os.read(signals, 1) == b"s"

        scene.relay(Pump(read_end, sink), signals=signals, on_signals=hear).run()


def test_input_goes_the_other_way_until_the_end() -> None:
    with Scene() as scene:
        (keys, hand), (inside, sink) = scene.pipe(), scene.pipe()
        write_all(hand, b"typed")
        relay = Relay(scene.ended, (), (Pump(keys, sink),), None, never)
        worker = threading.Thread(target=relay.run)
        worker.start()
        assert os.read(inside, 100) == b"typed"
        scene.close(hand)
        scene.close(scene.ending)
        worker.join(60)
        assert not worker.is_alive()
