"""The load client counts no success with servers that cut, stall, refuse or send wrong answers."""

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmactors.errors import Unavailable
from llmactors.load import held_answers
from llmactors.load.arrivals import poisson
from llmactors.load.measure import measure
from llmactors.load.plan import Api, Check, Plan
from llmactors.load.target import Target
from tests.support.canned_answers import (
    Fault,
    chunked,
    frame,
    lose,
    native_error,
    native_events,
    repeat,
    sized,
    swap,
)
from tests.support.canned_server import Asked, CannedServer, Cut, Wait

pytestmark = pytest.mark.integration

TOKENS = 5
Script = Iterator[bytes | Wait | Cut]


def load(server: CannedServer, **plan: Any) -> dict[str, Any]:
    chosen = {"check": Check.MOCK, "clients": 2, "requests": 4, "max_tokens": TOKENS, **plan}
    return measure(Plan(target=Target.parse(server.url), **chosen))


def seed_of(asked: Asked) -> int:
    return int(json.loads(asked.body)["seed"])


def right(asked: Asked, fault: Fault = lambda events: events) -> bytes:
    seed = seed_of(asked)
    return chunked(fault(native_events(f"load {seed}", seed, TOKENS)))


def run(script: Callable[[Asked], Script], **plan: Any) -> dict[str, Any]:
    with CannedServer(script) as server:
        return load(server, **plan)


def test_right_answers_are_counted() -> None:
    """The faults below change one thing each in these answers."""

    def script(asked: Asked) -> Script:
        raw = right(asked)
        yield raw[:50]
        yield raw[50:]

    result = run(script)
    assert (result["correct"], result["errors"]) == (4, {})


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("at", [0, 20, 120, -8, -1])
def test_answer_cut_anywhere_is_no_success(at: int, reset: bool) -> None:
    def script(asked: Asked) -> Script:
        if at:
            yield right(asked)[:at]
        yield Wait(0.01)
        yield Cut(reset=reset)

    result = run(script)
    assert (result["correct"], result["errors"]) == (0, {"cut": 4})


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lose(1), "wrong_seq"),
        (repeat(1), "wrong_seq"),
        (swap(1), "wrong_seq"),
        (lambda events: events[:-1], "no_end"),
        (lambda events: [*events[:2], native_error(3, "POISONED")], "stream_error"),
        (lambda events: [events[0].replace(b"text", b"test"), *events[1:]], "wrong_token"),
    ],
    ids=["lost", "repeated", "swapped", "no end", "error", "garbled"],
)
def test_wrong_answer_has_its_error_class(fault: Fault, kind: str) -> None:
    def script(asked: Asked) -> Script:
        yield right(asked, fault if asked.number == 1 else lambda events: events)

    result = run(script)
    assert (result["correct"], result["errors"]) == (3, {kind: 1})
    assert kind in result["examples"][0]


@pytest.mark.parametrize("status", [429, 503, 500])
def test_refusals_are_counted_and_timed(status: int) -> None:
    def script(_: Asked) -> Script:
        yield sized(b'{"error":{"code":"OVERLOADED","message":"full"}}', status=f"{status} No")

    result = run(script)
    assert (result["correct"], result["errors"]) == (0, {f"http_{status}": 4})
    assert result["error_codes"] == {f"http_{status} OVERLOADED": 4}
    assert result["refusal_s"].get("count", 0) == (0 if status == 500 else 4)
    assert result["latency_s"] == {}


def test_silent_server_is_a_timeout() -> None:
    def script(asked: Asked) -> Script:
        yield right(asked)[:200]
        yield Wait()

    result = run(script, stall_s=0.2)
    assert (result["correct"], result["errors"]) == (0, {"timeout": 4})


def test_run_ends_at_its_time_limit() -> None:
    def script(asked: Asked) -> Script:
        raw = right(asked)
        for byte in itertools.chain(raw[:-1], itertools.repeat(32)):
            yield bytes((byte,))
            yield Wait(0.005)

    result = run(script, limit_s=0.4, requests=50)
    assert (result["correct"], result["errors"], result["ended"]) == (0, {"broken_off": 2}, "limit")
    assert result["seconds"] < 5


def test_endless_answer_fills_no_memory() -> None:
    def script(_: Asked) -> Script:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        while True:
            yield b": nothing\n\n" * 5000

    result = run(script, requests=1, clients=1)
    assert result["errors"] == {"too_long": 1}


def test_answer_without_http_is_no_success() -> None:
    def script(_: Asked) -> Script:
        yield b"SSH-2.0-x\r\n\r\n"
        yield Cut()

    result = run(script)
    assert result["correct"] == 0
    assert sum(result["errors"].values()) == 4


def test_clients_pause_after_each_failed_connection() -> None:
    """A server goes away in the middle of a load. The load ends by its number of requests, however slow the machine."""

    def script(asked: Asked) -> Script:
        if asked.number == 5:
            stopping.start()
        if asked.number >= 5:
            yield Wait()
        yield right(asked)

    with CannedServer(script) as server:
        stopping = threading.Thread(target=server.stop)
        result = load(server, requests=25)
        stopping.join()
    assert result["correct"] == 5
    assert set(result["errors"]) <= {"connect", "cut"}
    failed = result["errors"]["connect"]
    assert failed >= 10
    # Two clients wait 50 ms each after a connection that failed.
    assert result["seconds"] >= 0.05 * (failed / 2 - 1)


def test_load_does_not_begin_if_nothing_listens() -> None:
    with CannedServer(lambda _: iter(())) as server:
        url = server.url
    with pytest.raises(Unavailable, match=r"no server answers at http://127.0.0.1:.*: connection refused"):
        measure(Plan(target=Target.parse(url)))


def test_open_loop_counts_the_wait_for_a_stalled_server() -> None:
    """One connection, and a server that stalls once: requests that arrive meanwhile wait from their arrival on."""
    stall_s, rate = 0.4, 100.0

    def script(asked: Asked) -> Script:
        yield Wait(stall_s if asked.number == 0 else 0)
        yield right(asked)

    result = run(script, rate=rate, seed=3, requests=20, clients=1)
    arrivals = list(itertools.islice(poisson(rate, 3), 20))
    waited = sorted(max(0.0, arrivals[0] + stall_s - at) for at in arrivals)
    assert result["correct"] == 20
    assert result["open_loop"]["held_back"] == sum(at < arrivals[0] + stall_s for at in arrivals[1:])
    assert result["latency_s"]["p50"] >= waited[9] * (1 - 1 / 256)
    assert result["latency_s"]["max"] >= stall_s
    assert "waited for one of 1 connections" in result["warnings"][0]


def test_late_client_reports_its_lateness() -> None:
    """The client sleeps once for 0.3 s. Requests that arrive meanwhile are timed from their arrival."""
    naps = [0.3]

    def script(asked: Asked) -> Script:
        yield right(asked)

    with CannedServer(script) as server:
        plan = Plan(target=Target.parse(server.url), rate=100.0, requests=60, max_tokens=TOKENS, clients=50)
        result = measure(plan, on_progress=lambda _: time.sleep(naps.pop() if naps else 0))
    assert result["correct"] == 60
    loop = result["open_loop"]
    assert loop["late_s"]["max"] >= 0.2
    assert result["latency_s"]["max"] >= loop["late_s"]["max"]
    assert not loop["kept_up"]
    assert "this client could not keep up" in result["warnings"][0]


def test_waiting_arrivals_fail_with_the_run() -> None:
    def script(_: Asked) -> Script:
        yield Wait()

    result = run(script, rate=1000.0, requests=20, clients=3, limit_s=0.3)
    assert (result["correct"], result["errors"]) == (0, {"broken_off": 20})


def test_sigint_ends_the_run_with_the_figures_so_far() -> None:
    def script(asked: Asked) -> Script:
        if asked.number == 4:
            signal.pthread_kill(main, signal.SIGINT)
        if asked.number >= 4:
            yield Wait()
        yield right(asked)

    main = threading.main_thread().ident or 0
    before = signal.getsignal(signal.SIGINT)  # a shell may start its children with SIGINT ignored
    result = run(script, requests=1000)
    assert (result["ended"], result["correct"], result["failed"]) == ("interrupted", 4, 0)
    assert result["interrupted"] == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_answers_above_the_bound_are_checked_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_answers, "HOLD_BYTES", 3000)

    def script(asked: Asked) -> Script:
        yield right(asked)

    result = run(script, requests=10)
    assert (result["correct"], result["errors"]) == (10, {})
    assert 0 < result["client"]["checked_early"] <= 10
    assert any("checked while the clock ran" in warning for warning in result["warnings"])


def test_closed_idle_connection_is_replaced() -> None:
    def script(asked: Asked) -> Script:
        yield right(asked)
        yield Cut()

    # The requests are so far apart that the end of one connection is known before the next request.
    result = run(script, rate=10.0, requests=6)
    assert (result["correct"], result["errors"]) == (6, {})
    assert result["client"]["connections"] == 6


def test_failed_handshake_has_its_class() -> None:
    def refuse(_: Asked) -> Script:
        yield sized(b'{"error":{"code":"UNAVAILABLE"}}', status="503 No")

    def pretend(_: Asked) -> Script:
        yield b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: nonsense\r\n\r\n" + frame(b"{}")

    assert run(refuse, api=Api.WS)["errors"] == {"http_503": 4}
    assert run(pretend, api=Api.WS)["errors"] == {"http_101": 4}
