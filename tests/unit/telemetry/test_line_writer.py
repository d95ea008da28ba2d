"""Lines are written in order, or dropped and counted, and the caller never waits and never fails."""

import os
import threading
import time

import pytest

from llmactors.telemetry.line_writer import LineWriter


def report(dropped: int) -> str:
    return f"{dropped} dropped\n"


def test_lines_are_written_in_order() -> None:
    read, write = os.pipe()
    writer = LineWriter(write, tell_dropped=report)
    for number in range(1000):
        writer.write(f"{number}\n")
    assert writer.flush(5)
    os.close(write)
    with os.fdopen(read) as lines:
        assert lines.read() == "".join(f"{number}\n" for number in range(1000))
    assert writer.dropped == 0


def test_unread_pipe_drops_lines_and_says_so_later() -> None:
    read, write = os.pipe()
    writer = LineWriter(write, tell_dropped=report, max_queued_bytes=10_000)
    while writer.flush(0.05):  # until the pipe is full
        for _ in range(50):
            writer.write("x" * 99 + "\n")
    begun = time.monotonic()
    for _ in range(10_000):
        writer.write("x" * 99 + "\n")
    assert time.monotonic() - begun < 2
    assert not writer.flush(0.05)
    assert writer.dropped > 9000
    lines: list[str] = []
    with os.fdopen(read, newline="") as pipe:
        reader = threading.Thread(target=lambda: lines.extend(pipe))
        reader.start()
        assert writer.flush(5)
        writer.write("last\n")
        assert writer.flush(5)
        os.close(write)
        reader.join()
    assert f"{writer.dropped} dropped\n" in lines
    assert lines[-1] == "last\n"
    assert {len(line) for line in lines[:-2]} <= {100, len(f"{writer.dropped} dropped\n")}


@pytest.mark.parametrize("kind", ["full", "closed", "gone"])
def test_descriptor_that_refuses_data_does_no_harm(kind: str) -> None:
    read, write = os.pipe()
    if kind == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), write)
    os.close(read)
    if kind == "closed":
        os.close(write)
    writer = LineWriter(write, tell_dropped=report)
    writer.write("lost\n")
    assert writer.flush(5)
    assert writer.dropped == 1
    if kind != "closed":
        os.close(write)


def test_non_blocking_descriptor_loses_nothing() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    writer = LineWriter(write, tell_dropped=report)
    for _ in range(2000):
        writer.write("x" * 99 + "\n")
    time.sleep(0.05)
    with os.fdopen(read, "rb") as pipe:
        found = b""
        while len(found) < 200_000:
            found += pipe.read1(65536)
    assert writer.flush(5)
    assert writer.dropped == 0
    os.close(write)


def test_text_of_any_characters_is_written() -> None:
    read, write = os.pipe()
    writer = LineWriter(write, tell_dropped=report)
    writer.write("caf\udce9 \u2028\n")
    assert writer.flush(5)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"caf\\udce9 \xe2\x80\xa8\n"
