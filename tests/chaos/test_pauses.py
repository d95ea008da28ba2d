"""A pause is no crash: whatever is stopped for a while, no accepted request ends in an error."""

import signal

import pytest
import trio

from llmactors.testing.checker import check
from llmactors.testing.node import NodeProcess, wait_until
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(100)]

PATIENT = LoadSettings(clients=24, max_tokens=400, silence_s=60, head_s=60)
"""Clients that wait through any pause, and long answers, which many pauses hit."""


async def test_pauses_of_one_process_convict_nobody() -> None:
    """Seven pauses, each of which is longer than a lease of a cluster."""
    with NodeProcess("serve", "--model", "mock:step_ms=20,slots=16", "--bind", "127.0.0.1:0") as node:
        url = await trio.to_thread.run_sync(node.wait_ready)
        load = StreamLoad(lambda: [url], PATIENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await wait_until(lambda: load.history.open >= PATIENT.clients)
            for _ in range(7):
                node.process.send_signal(signal.SIGSTOP)
                await trio.sleep(2)
                node.process.send_signal(signal.SIGCONT)
                await trio.sleep(0.3)
            load.stop()
        report = check(load.history)
        assert not report.broken, str(report)
        assert not report.failures, str(report)
        assert report.accepted >= PATIENT.clients
        errors = node.errors()
        assert "lease" not in errors
        assert "restarting" not in errors
