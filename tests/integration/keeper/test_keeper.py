"""The keeper with small gateways: real processes, real sockets, and `kill -9`."""

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.keeper_run import KeeperRun, read_all

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the keeper needs Linux")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeeperRun]:
    with KeeperRun(tmp_path) as found:
        yield found
        sys.stdout.write(found.log())


def lines(count: int) -> bytes:
    return b"".join(b"%06d\n" % number for number in range(count))


def test_connection_goes_on_at_the_next_gateway(kept: KeeperRun) -> None:
    with kept.client(b"say 60 5\n") as client:
        found = read_all(client, 35)
        for _ in range(3):
            kept.kill()
        assert found + read_all(client, 420 - len(found)) == lines(60)


def test_half_read_request_goes_on(kept: KeeperRun) -> None:
    body = random.Random(1).randbytes(300_000)
    with kept.client(b"sum 300", b"000\n" + body[:150_000]) as client:
        kept.kill()
        client.sendall(body[150_000:])
        assert read_all(client, 65) == hashlib.sha256(body).hexdigest().encode() + b"\n"
        client.sendall(b"say 2 0\n")
        assert read_all(client, 14) == lines(2)


def test_large_record_is_written_to_its_end(kept: KeeperRun) -> None:
    expected = (b"0123456789abcde\n" * 200_000)[:3_000_000]
    with kept.client(b"large 3000000\n") as client:
        found = read_all(client, 100_000)
        kept.kill()
        kept.kill()
        assert found + read_all(client, 3_000_000 - len(found)) == expected


def test_pipelined_requests_are_answered_in_turn(kept: KeeperRun) -> None:
    with kept.client(b"say 10 5\nlarge 40000\nsay 10 5\n") as client:
        kept.kill()
        assert read_all(client, 40_140) == lines(10) + (b"0123456789abcde\n" * 2500) + lines(10)


def test_idle_connection_outlives_its_gateway(kept: KeeperRun) -> None:
    with kept.client() as client, kept.client(b"say 1 0\n") as other:
        read_all(other, 7)
        kept.kill()
        for connection in (client, other):
            connection.sendall(b"say 3 0\n")
            assert read_all(connection, 21) == lines(3)


@pytest.mark.keeper
def test_hundreds_of_connections_are_taken_over_at_once(kept: KeeperRun) -> None:
    clients = [socket.create_connection(kept.address, timeout=20.0) for _ in range(300)]
    for client in clients:
        client.sendall(b"say 20 20\n")
    kept.wait_for_standby()
    kept.kill()
    try:
        assert all(read_all(client, 140) == lines(20) for client in clients)
    finally:
        for client in clients:
            client.close()


@pytest.mark.keeper
def test_client_that_left_unseen_is_forgotten(kept: KeeperRun) -> None:
    with kept.client(b"say 1000 5\n") as client:
        read_all(client, 7)
        for pid in reversed(kept.wait_for_standby()[:2]):
            os.kill(pid, signal.SIGKILL)  # nobody is attached until another gateway has started
    kept.wait_for(lambda status: status.active and status.takeovers)
    end = time.monotonic() + 5.0
    while (held := sockets_of(kept.process.pid)) > 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert held <= 4, "the keeper still holds the connection"


def sockets_of(pid: int) -> int:
    """The sockets of a process: the listening one, and one or two to gateways."""
    folder = Path(f"/proc/{pid}/fd")
    return sum(str(fd.readlink()).startswith("socket:") for fd in folder.iterdir())


@pytest.mark.keeper
def test_end_of_a_connection_reaches_the_client(kept: KeeperRun) -> None:
    with kept.client(b"say 1 0\n") as client:
        read_all(client, 7)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_unprotected_connection_alone_is_cut(kept: KeeperRun) -> None:
    with kept.client(b"leave\n") as client, kept.client(b"say 20 20\n") as other:
        assert read_all(client, 5) == b"left\n"
        kept.kill()
        assert read_all(client, 1) == b""
        assert read_all(other, 140) == lines(20)
    assert "and 1 are cut" in kept.log()


@pytest.mark.keeper
@pytest.mark.parametrize("poison", [b"poison\n", b"slay\n", b"venom\n"])
def test_poison_connection_ends_no_other(kept: KeeperRun, poison: bytes) -> None:
    with kept.client(b"say 20 20\n") as first, kept.client(poison) as poisoned, kept.client(b"say 20 20\n") as last:
        kept.wait_for_standby()
        os.kill(kept.status.active, signal.SIGKILL)
        assert read_all(poisoned, 1) == b""
        assert read_all(first, 140) == read_all(last, 140) == lines(20)
        last.sendall(b"say 3 0\n")
        assert read_all(last, 21) == lines(3)


@pytest.mark.keeper
@pytest.mark.timeout(120)
@pytest.mark.parametrize("after_ms", [1, 300, 800])
def test_connection_for_which_memory_runs_out_is_cut(tmp_path: Path, after_ms: int) -> None:
    """The kernel kills each gateway that takes it up. The other connections are served."""
    with KeeperRun(tmp_path, has_kills_file=True) as kept, contextlib.ExitStack() as stack:
        others = [stack.enter_context(kept.client(b"say 20 20\n")) for _ in range(6)]
        with kept.client(b"hog %d\n" % after_ms) as hog:
            others += [stack.enter_context(kept.client(b"say 20 20\n")) for _ in range(6)]
            hog.settimeout(60.0)
            kept.wait_for_standby()
            os.kill(kept.status.active, signal.SIGKILL)
            assert read_all(hog, 1) == b""
        for other in others:
            assert read_all(other, 140) == lines(20)
            other.sendall(b"say 3 0\n")
            assert read_all(other, 21) == lines(3)
    assert "and 1 are cut" in kept.log()


@pytest.mark.keeper
def test_kills_behind_a_connection_alone_cut_nothing(kept: KeeperRun) -> None:
    """Each gateway is killed 0.2 s after it took a connection up, but for all that is known by an operator."""
    with kept.client(b"say 100 20\n") as other, kept.client(b"drop 200\n") as dropped:
        kept.wait_for_standby()
        os.kill(kept.status.active, signal.SIGKILL)
        kept.wait_for(lambda status: status.takeovers >= 8, within_s=30.0)
        assert read_all(other, 700) == lines(100)
        dropped.settimeout(0.1)
        with pytest.raises(TimeoutError):
            dropped.recv(1)
    assert "and 1 are cut" not in kept.log()


@pytest.mark.keeper
def test_standby_that_ends_is_replaced(kept: KeeperRun) -> None:
    before = kept.wait_for_standby()
    os.kill(before.standby, signal.SIGKILL)
    after = kept.wait_for(lambda status: status.standby not in {0, before.standby})
    assert after.active == before.active


@pytest.mark.keeper
def test_standby_that_never_gets_warm_is_replaced(tmp_path: Path) -> None:
    with KeeperRun(tmp_path, start_s=0.5) as kept, kept.client(b"say 100 20\n") as client:
        read_all(client, 7)
        kept.wait_for_standby()
        kept.mode("cold")
        kept.kill()
        time.sleep(0.7)
        kept.mode("")
        os.kill(kept.status.active, signal.SIGKILL)
        assert read_all(client, 693) == lines(100)[7:]
    assert "is not ready after 0.5 s" in kept.log()


@pytest.mark.keeper
def test_gateways_that_fail_again_and_again_end_the_keeper(kept: KeeperRun) -> None:
    with kept.client(b"say 1000 20\n") as client:
        read_all(client, 7)
        before = kept.wait_for_standby()
        kept.mode("fails")
        os.kill(before.standby, signal.SIGKILL)
        kept.wait_for(lambda status: status.standby not in {0, before.standby})
        os.kill(before.active, signal.SIGKILL)
        assert kept.process.wait(timeout=15) == 1
        assert read_all(client, 7000) != b""
    assert kept.log().splitlines()[-1].count("the keeper gives up") == 1


def test_first_gateway_that_fails_ends_the_keeper(tmp_path: Path) -> None:
    kept = KeeperRun(tmp_path, mode="exits")
    assert kept.process.wait(timeout=10) == 3
    kept.__exit__(None, None, None)


@pytest.mark.keeper
def test_death_of_the_keeper_ends_its_gateways(kept: KeeperRun) -> None:
    pids = kept.wait_for_standby()[:2]
    kept.process.kill()
    end = time.monotonic() + 5.0
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.keeper
def test_connections_wait_where_files_run_out(tmp_path: Path) -> None:
    with KeeperRun(tmp_path, files=40) as kept:
        clients = [socket.create_connection(kept.address, timeout=10.0) for _ in range(20)]
        for client in clients:
            client.sendall(b"say 2 0\n")
        for client in clients:  # each one that ends makes room for the next one
            assert read_all(client, 14) == lines(2)
            client.close()


def test_signal_lets_answers_end(kept: KeeperRun) -> None:
    with kept.client(b"say 20 20\n") as client:
        read_all(client, 7)
        kept.process.terminate()
        assert read_all(client, 14) == lines(20)[7:21]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(kept.address, timeout=1.0)
        assert read_all(client, 1000) == lines(20)[21:]
    assert kept.process.wait(timeout=5) == 0


@pytest.mark.keeper
def test_gateway_killed_while_it_drains_is_replaced(kept: KeeperRun) -> None:
    with kept.client(b"say 40 20\n") as client:
        read_all(client, 7)
        kept.wait_for_standby()
        kept.process.terminate()
        time.sleep(0.1)
        os.kill(kept.status.active, signal.SIGKILL)
        assert read_all(client, 1000) == lines(40)[7:]
    assert kept.process.wait(timeout=5) == 0


def test_second_signal_ends_at_once(kept: KeeperRun) -> None:
    with kept.client(b"say 1000 20\n") as client:
        read_all(client, 7)
        kept.process.terminate()
        time.sleep(0.1)
        kept.process.send_signal(signal.SIGINT)
        assert kept.process.wait(timeout=5) == 128 + signal.SIGINT


@pytest.mark.keeper
def test_upgrade_replaces_both_gateways(kept: KeeperRun) -> None:
    before = kept.wait_for_standby()
    with kept.client(b"say 40 20\n") as client:
        kept.process.send_signal(signal.SIGUSR2)
        after = kept.wait_for(lambda status: status.upgrades and status.standby not in {0, before.standby})
        assert read_all(client, 280) == lines(40)
    assert after.outcome == "upgraded"
    assert not {after.active, after.standby} & {before.active, before.standby}


@pytest.mark.keeper
@pytest.mark.parametrize("mode", ["exits", "fails", "cold", "newer"])
def test_failed_upgrade_changes_nothing(tmp_path: Path, mode: str) -> None:
    with KeeperRun(tmp_path, start_s=0.5) as kept, kept.client(b"say 100 20\n") as client:
        before = kept.wait_for_standby()
        kept.mode(mode)
        kept.process.send_signal(signal.SIGUSR2)
        after = kept.wait_for(lambda status: status.upgrades and status.active)
        assert after.outcome.startswith("not upgraded")
        assert after.active == before.standby if mode == "fails" else after.active == before.active
        assert read_all(client, 700) == lines(100)


@pytest.mark.keeper
@pytest.mark.timeout(120)
def test_many_kills_lose_no_byte(kept: KeeperRun) -> None:
    """Gateways are killed at random moments, also in the middle of takeovers, and so are those that wait."""
    rng = random.Random(7)
    stop = threading.Event()
    wrong: list[bytes] = []
    answers = [0] * 20

    def ask(number: int) -> None:
        own = random.Random(number)
        with kept.client() as client:
            while not stop.is_set():
                count, size, body = own.randint(1, 30), own.randint(1, 200_000), own.randbytes(own.randint(1, 100_000))
                client.sendall(b"say %d 2\nlarge %d\nsum %d\n" % (count, size, len(body)) + body)
                large = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
                expected = lines(count) + large + hashlib.sha256(body).hexdigest().encode() + b"\n"
                if (found := read_all(client, len(expected))) != expected:
                    wrong.append(found[-100:])
                    return
                answers[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(answers))]
    for thread in threads:
        thread.start()
    for _ in range(60):
        time.sleep(rng.choice((0.0, 0.02, 0.2, 0.5)))
        status = kept.status
        pid = status.standby if rng.random() < 0.2 else status.active
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, kept.log()
    assert min(answers) > 0


def test_stopped_gateway_is_replaced(tmp_path: Path) -> None:
    """SIGCONT comes too late: the gateway that was stopped is dead, and can write no more."""
    with KeeperRun(tmp_path, frozen_s=1.0) as kept, kept.client(b"say 150 20\n") as client:
        read_all(client, 7)
        before = kept.wait_for_standby()
        os.kill(before.active, signal.SIGSTOP)
        kept.wait_for(lambda status: status.active and status.takeovers)
        with pytest.raises(ProcessLookupError):
            os.kill(before.active, signal.SIGCONT)
        assert read_all(client, 1043) == lines(150)[7:]
    assert "has done nothing for 1 s" in kept.log()


@pytest.mark.keeper
def test_stopped_standby_is_replaced(tmp_path: Path) -> None:
    with KeeperRun(tmp_path, frozen_s=1.0) as kept:
        before = kept.wait_for_standby()
        os.kill(before.standby, signal.SIGSTOP)
        after = kept.wait_for(lambda status: status.standby not in {0, before.standby})
        assert after.active == before.active


@pytest.mark.keeper
@pytest.mark.timeout(120)
def test_connection_that_freezes_gateways_is_cut(tmp_path: Path) -> None:
    with KeeperRun(tmp_path, frozen_s=1.0) as kept, kept.client(b"say 20 20\n") as other:
        kept.wait_for_standby()
        with kept.client(b"spin\n") as spinning:
            spinning.settimeout(60.0)
            assert read_all(spinning, 1) == b""
        assert read_all(other, 140) == lines(20)
        other.sendall(b"say 3 0\n")
        assert read_all(other, 21) == lines(3)


@pytest.mark.keeper
def test_stop_of_all_processes_convicts_nobody(tmp_path: Path) -> None:
    with KeeperRun(tmp_path, frozen_s=2.5) as kept, kept.client(b"say 300 20\n") as client:
        before = kept.wait_for_standby()
        pids = [kept.process.pid, before.active, before.standby]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.0)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert read_all(client, 2100) == lines(300)
        assert kept.status[:3] == before[:3]


@pytest.mark.keeper
def test_gateway_that_waits_for_a_core_is_not_frozen(tmp_path: Path) -> None:
    """All processes share one core with busy ones of a higher rank."""
    with KeeperRun(tmp_path, frozen_s=1.0) as kept, kept.client(b"say 100 20\n") as client:
        before = kept.wait_for_standby()
        core = {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(before.active, core)
        os.setpriority(os.PRIO_PROCESS, before.active, 19)
        busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(40)]
        try:
            for process in busy:
                os.sched_setaffinity(process.pid, core)
            time.sleep(4.0)
        finally:
            for process in busy:
                process.kill()
                process.wait()
        assert read_all(client, 700) == lines(100)
        assert kept.status.takeovers == 0, kept.log()


@pytest.mark.keeper
@pytest.mark.parametrize("clients", [1, 5])
def test_gateways_that_crash_by_themselves_cut_nobody(tmp_path: Path, clients: int) -> None:
    """Each gateway crashes some time after it has become the active one, whatever connections it has."""
    with KeeperRun(tmp_path) as kept, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(kept.client(b"say 40 20\n")) for _ in range(clients)]
        before = kept.wait_for_standby()
        kept.mode("crashes")
        os.kill(before.standby, signal.SIGKILL)
        kept.wait_for(lambda status: status.standby not in {0, before.standby})
        os.kill(before.active, signal.SIGKILL)
        kept.wait_for(lambda status: status.takeovers >= 4)
        kept.mode("")
        for stream in streams:
            assert read_all(stream, 280) == lines(40), kept.log()


@pytest.mark.keeper
def test_upgrade_amid_a_takeover_is_made(kept: KeeperRun) -> None:
    """And so are upgrades that are asked for again and again: each ask has an outcome, and no connection is cut."""
    before = kept.wait_for_standby()
    with kept.client(b"say 200 20\n") as client:
        os.kill(before.active, signal.SIGKILL)
        kept.process.send_signal(signal.SIGUSR2)
        for _ in range(3):
            kept.process.send_signal(signal.SIGUSR2)
            time.sleep(0.02)
        kept.wait_for(lambda status: status.outcome == "upgraded" and status.active and status.standby)
        assert read_all(client, 1400) == lines(200)


@pytest.mark.keeper
def test_gateway_that_dies_amid_an_upgrade_is_replaced(kept: KeeperRun) -> None:
    before = kept.wait_for_standby()
    with kept.client(b"say 100 20\n") as client:
        kept.process.send_signal(signal.SIGUSR2)
        time.sleep(0.01)
        os.kill(before.active, signal.SIGKILL)
        kept.wait_for(lambda status: status.upgrades and status.active and status.standby)
        assert read_all(client, 700) == lines(100)


@pytest.mark.keeper
@pytest.mark.parametrize("wait_s", [0.0, 0.03, 0.1])
def test_signal_amid_an_upgrade_drains(kept: KeeperRun, wait_s: float) -> None:
    with kept.client(b"say 40 20\n") as client:
        kept.wait_for_standby()
        kept.process.send_signal(signal.SIGUSR2)
        time.sleep(wait_s)
        kept.process.terminate()
        assert read_all(client, 1000) == lines(40)
    assert kept.process.wait(timeout=10) == 0, kept.log()


@pytest.mark.keeper
def test_new_version_that_crashes_when_it_serves_is_replaced(kept: KeeperRun) -> None:
    """The standby of the new version is as bad, but the one of the old version was there before."""
    kept.wait_for_standby()
    with kept.client(b"say 100 20\n") as client:
        kept.mode("crashes")
        kept.process.send_signal(signal.SIGUSR2)
        kept.wait_for(lambda status: status.takeovers >= 2)
        kept.mode("")
        assert read_all(client, 700) == lines(100)


@pytest.mark.keeper
def test_keeper_reaps_the_children_of_others(tmp_path: Path) -> None:
    """As the first process of a container does: the kernel gives it the children whose parents have ended."""
    with KeeperRun(tmp_path, mode="orphans", takes_orphans=True) as kept:
        kept.wait_for_standby()
        end = time.monotonic() + 5.0
        while (children := children_of(kept.process.pid)) != {"python"} and time.monotonic() < end:
            time.sleep(0.02)
        assert children == {"python"}, "a dead orphan, or one that should have died, is left"


def children_of(pid: int) -> set[str]:
    """The names of the children of a process, also of those that have ended and were not reaped."""
    found = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.add(Path(f"/proc/{child}/comm").read_text().strip().rstrip("0123456789."))
    return found
