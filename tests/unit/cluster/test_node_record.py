"""A node record is encoded and decoded without a change, and a process id identifies one process."""

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


def test_node_record_is_decoded_as_it_was_encoded() -> None:
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


def test_record_of_an_older_version_honours_no_optional_field() -> None:
    capable = Capabilities(4, 512, Takeover.EXACT, honours=frozenset({"prompt_ids"}))
    written = msgspec.to_builtins(ModelReport("m", capabilities=capable))
    assert msgspec.convert(written, ModelReport).capabilities == capable
    del written["capabilities"]["honours"]
    read = msgspec.convert(written, ModelReport).capabilities
    assert read == attrs.evolve(capable, honours=frozenset())


@pytest.mark.parametrize("data", [b"", b"{}", b"nonsense", b'{"name": "w1"}'])
def test_bytes_that_are_no_record_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        NodeRecord.decode(data)


def test_own_process_is_not_dead() -> None:
    assert not ProcessId.own().is_dead()


def test_ended_process_is_dead_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        begun = attrs.evolve(ProcessId.own(), pid=child.pid)
        begun = attrs.evolve(begun, begun=_begun(child.pid))
        assert not begun.is_dead()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert begun.is_dead()
    assert begun.is_dead()


def test_process_with_a_reused_pid_is_another_one() -> None:
    assert attrs.evolve(ProcessId.own(), begun="1").is_dead()


@pytest.mark.parametrize("field", ["host", "space"])
def test_process_of_another_machine_is_never_known_dead(field: str) -> None:
    changes: dict[str, Any] = {field: "elsewhere"}
    elsewhere = attrs.evolve(ProcessId.own(), begun="1", **changes)
    assert not elsewhere.is_dead()


def _begun(pid: int) -> str:
    from llmactors.cluster.process_id import _begun

    return _begun(pid)
