"""A managed process is restarted when it ends, knows its state, and is gone at the end."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from llmactors.testing.checker import check
from llmactors.testing.managed_process import ManagedProcess, poll_until
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def running(directory: Path, *arguments: str) -> AsyncIterator[ManagedProcess]:
    arguments = arguments or ("--model", "mock:step_ms=20", "--bind", "127.0.0.1:0")
    member = ManagedProcess("gateway", "gateway-1", arguments, directory, restart_after_s=0.05)
    async with trio.open_nursery() as nursery:
        await nursery.start(member.run)
        try:
            yield member
        finally:
            nursery.cancel_scope.cancel()


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_process_is_restarted_until_the_block_ends(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        assert member.url.startswith("http://127.0.0.1:")
        first = member.pid
        assert member.kill()
        await member.wait_ready(starts=2)
        assert member.exits == [-signal.SIGKILL]
        assert not exists(first)
        second = member.pid
        member.signal(signal.SIGTERM)
        assert await member.wait_exit() == 0
        member.kept_up = False
        await poll_until(lambda: member.exits == [-signal.SIGKILL, 0])
        assert not member.kill()
    assert not exists(second)
    assert not member.alive


async def test_frozen_process_is_thawed_unless_it_was_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        state = Path(f"/proc/{member.pid}/stat")
        with member.stopped() as was_there:
            assert was_there
            await poll_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
            assert "frozen" in repr(member)
        await poll_until(lambda: state.read_text().rpartition(")")[2].split()[0] != "T")
        with member.stopped():
            member.kill()
            await member.wait_ready(starts=2)
    assert not member.alive


async def test_failed_test_leaves_no_frozen_process(tmp_path: Path) -> None:
    pid = 0
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        async with running(tmp_path) as member:
            pid = member.pid
            with member.stopped():
                raise KeyError
    assert not exists(pid)


async def test_failed_start_shows_the_output(tmp_path: Path) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="gateway-1 did not start(.|\n)*nonsense"), flatten_subgroups=True
    ):
        async with running(tmp_path, "--model", "mock:nonsense=1"):
            pass


async def test_tracebacks_of_all_starts_are_found(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        assert member.tracebacks() == []
        (tmp_path / "gateway-1.7.err").write_text("fine\nTraceback (most recent call last):\n  ...\nKeyError: 1\n")
        (found,) = member.tracebacks()
        assert found.startswith("gateway-1.7.err: Traceback")
        assert "KeyError" in found


async def test_clients_of_a_node_that_forgets_report_lost_requests(tmp_path: Path) -> None:
    """A ledger in memory cannot survive `kill -9`, so clients and checker must report lost requests."""
    # On a port of its own choice a second life would be somewhere else.
    async with running(tmp_path) as first:
        port = first.url.rpartition(":")[2]
    async with running(tmp_path, "--model", "mock:step_ms=20", "--bind", f"127.0.0.1:{port}") as member:
        load = StreamLoad(lambda: [member.url], LoadSettings(clients=8, max_tokens=30, settle_s=5))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await load.wait_accepted(12)
            member.kill()
            await member.wait_ready(starts=2)
            await load.wait_accepted(24)
            load.stop()
    report = check(load.history)
    assert 1 <= report.lost_requests <= 8
    assert report.http_errors["404 NOT_FOUND"] == report.lost_requests
    assert set(report.broken) == {"lost_requests"}
