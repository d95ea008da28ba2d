"""What a node says of itself survives the way through Redis, and a process is told from its successor."""

import os
import subprocess
import sys
from typing import Any

import attrs
import msgspec
import pytest

from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.backends.directory import ModelState
from llmactors.cluster.node_record import ModelReport, NodeLoad, NodeRecord, Role, new_incarnation
from llmactors.cluster.process_id import ProcessId


def test_a_record_comes_back_as_it_was() -> None:
    record = NodeRecord(
        name="w1",
        role=Role.WORKER,
        incarnation=new_incarnation(),
        process=ProcessId.own(),
        started_at=1.5,
        version="0.1",
        address="http://127.0.0.1:1",
        renewed_at=2.5,
        draining=True,
        load=NodeLoad(3, 4),
        models=(
            ModelReport("m", ModelState.STALLED, Capabilities(4, 512, Takeover.EXACT, Batching.STATIC), "why"),
            ModelReport("n"),
        ),
    )
    assert NodeRecord.decode(record.encode()) == record


def test_a_worker_of_an_older_version_honours_no_optional_field() -> None:
    capable = Capabilities(4, 512, Takeover.EXACT, honours=frozenset({"prompt_ids"}))
    written = msgspec.to_builtins(ModelReport("m", capabilities=capable))
    assert msgspec.convert(written, ModelReport).capabilities == capable
    del written["capabilities"]["honours"]
    read = msgspec.convert(written, ModelReport).capabilities
    assert read == attrs.evolve(capable, honours=frozenset())


@pytest.mark.parametrize("data", [b"", b"{}", b"nonsense", b'{"name": "w1"}'])
def test_what_is_no_record_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        NodeRecord.decode(data)


def test_this_process_lives() -> None:
    assert not ProcessId.own().is_dead()


def test_a_process_that_ended_is_dead_also_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        begun = attrs.evolve(ProcessId.own(), pid=child.pid)
        begun = attrs.evolve(begun, begun=_begun(child.pid))
        assert not begun.is_dead()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert begun.is_dead()
    assert begun.is_dead()


def test_another_process_with_the_same_pid_is_not_the_same() -> None:
    assert attrs.evolve(ProcessId.own(), begun="1").is_dead()


@pytest.mark.parametrize("field", ["host", "space"])
def test_nobody_knows_of_processes_elsewhere(field: str) -> None:
    changes: dict[str, Any] = {field: "elsewhere"}
    elsewhere = attrs.evolve(ProcessId.own(), begun="1", **changes)
    assert not elsewhere.is_dead()


def _begun(pid: int) -> str:
    from llmactors.cluster.process_id import _begun

    return _begun(pid)
