"""Where no keeper can hold connections, and how a gateway says so."""

import os
import sys

import pytest

from llmactors.cli.keeping import why_no_keeper
from llmactors.http import tcp_position

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the keeper needs Linux")


def test_linux_has_what_a_keeper_needs() -> None:
    assert why_no_keeper() is None


def test_other_systems_have_no_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert why_no_keeper() == "a keeper needs Linux, and this system is darwin"


def test_refused_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert why_no_keeper() == "the kernel refuses what a keeper needs: Operation not permitted"
    monkeypatch.delattr(os, "memfd_create")
    assert why_no_keeper() == "this Python has no `os.memfd_create`"


def test_kernel_that_counts_no_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernels of some containers, which leave the counters at zero."""
    monkeypatch.setattr(tcp_position, "_counter", lambda *_: 0)
    assert why_no_keeper() == "the kernel does not tell how many bytes of a connection were written"
