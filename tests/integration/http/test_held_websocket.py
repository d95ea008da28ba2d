"""WebSockets that outlive a gateway: a gateway dies at each step, and the client hears every message exactly once."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, RejectConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from llmactors.testing.node import LocalNode, local_node, mock_model
from tests.support.held_lives import NEVER, Lives, Point, lives_of
from tests.support.oracle import oracle

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the keeper needs Linux")

EVERY = int(os.environ.get("HELD_EVERY", "0"))
"""The distance of the steps at which gateways die, 1 for each; 0: the first, a middle and the last of each kind."""
HEAR_S = 10.0


@attrs.define
class Heard:
    """What a client has heard, in a form that does not depend on times and ids."""

    replies: list[tuple[object, str]] = attrs.field(factory=list)
    """The `ref` and the event of each reply."""
    events: dict[object, list[tuple[str, dict[str, Any]]]] = attrs.field(factory=lambda: defaultdict(list))
    """The events of each stream, by the `ref` that asked for it."""
    pongs: list[bytes] = attrs.field(factory=list)
    closed: tuple[int, str | None] | None = None
    refused: int | None = None


class PlainClient:
    """A WebSocket client that never connects again. Bytes that are no valid frame raise an error."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.heard = Heard()
        self.ids: dict[object, str] = {}
        self._machine = WSConnection(ConnectionType.CLIENT)
        self._text = ""

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(map(self._machine.send, events)))

    async def say(self, ref: object, **message: object) -> None:
        await self.send(TextMessage(data=json.dumps({"ref": ref, **message})))

    async def handshake(self, path: str = "/v1/ws", headers: dict[str, str] | None = None) -> None:
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await self.send(Request(host="localhost", target=path, extra_headers=extra, extensions=[PerMessageDeflate()]))
        self._was_answered = False
        await self.until(lambda: self._was_answered)

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """Hears until `is_enough`. Fails where the connection ends before."""
        with trio.fail_after(HEAR_S):
            while not is_enough():
                data = await self.stream.receive_some()
                assert data, f"the connection was cut: {self.heard}"
                self._machine.receive_data(data)
                for event in self._machine.events():
                    await self._hear(event)

    async def until_end(self) -> None:
        """Hears the end of the connection."""
        with trio.fail_after(HEAR_S):
            assert await self.stream.receive_some() == b""

    async def _hear(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            assert not event.extensions
            self._was_answered = True
        elif isinstance(event, RejectConnection):
            self.heard.refused = event.status_code
            self._was_answered = True
        elif isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                self._note(json.loads(text))
        elif isinstance(event, Pong):
            self.heard.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            self.heard.closed = event.code, event.reason
        elif isinstance(event, Ping) and self._machine.state is ConnectionState.OPEN:
            await self.send(event.response())

    def _note(self, message: dict[str, Any]) -> None:
        event, ref = message.pop("event"), message.pop("ref", None)
        if event in {"token", "done"} or (event == "error" and "id" in message):
            ref = [each for each, known in self.ids.items() if known == message["id"]][-1]
            del message["id"]
            self.heard.events[ref].append((event, message))
        elif event != "queued":  # it depends on the time
            if event == "accepted":
                self.ids[ref] = message["id"]
            said = message.get("cancelled", message.get("error", {}).get("code", ""))
            self.heard.replies.append((ref, f"{event} {said}"))

    def has_ended(self, *refs: object) -> bool:
        return all(self.heard.events[ref] and self.heard.events[ref][-1][0] != "token" for ref in refs)


Talk = Callable[[PlainClient], Coroutine[Any, Any, None]]


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("step_ms=1,slots=8")) as found:
        await found.wait_ready()
        yield found


def chosen(points: list[str]) -> list[tuple[str, int]]:
    """The steps at which a gateway dies: by their names, because how often tokens are written is chance."""
    counts = Counter(points)
    if EVERY:
        return [(name, number) for name, count in counts.items() for number in range(1, count + 1, EVERY)]
    return [(name, number) for name, count in counts.items() for number in sorted({1, (count + 1) // 2, count})]


async def die_at_each(lives: Lives, talk: Talk, **options: int) -> Heard:
    """Lets gateways die at steps of a talk. Returns what the client hears each time."""

    async def heard(die_at: Point) -> Heard:
        async with lives.client(die_at, **options) as stream:
            client = PlainClient(stream)
            try:
                await talk(client)
            except BaseException as error:
                error.add_note(f"a death at step {die_at}; cut: {lives.cut}")
                raise
            return client.heard

    expected = await heard(NEVER)
    before = lives.takeovers
    for die_at in chosen([*lives.points]):
        found = await heard(die_at)
        assert not lives.cut, f"cut at step {die_at}: {lives.cut}"
        assert found == expected, f"something else was heard behind a death at step {die_at}"
    assert lives.takeovers > before
    return expected


def text_of(heard: Heard, ref: object) -> str:
    return "".join(message["text"] for event, message in heard.events[ref] if event == "token")


async def two_streams(client: PlainClient) -> None:
    """Two streams, one of them asked for in fragments around a ping, and a close by the client."""
    await client.handshake()
    await client.say(1, op="generate", prompt="one", max_tokens=4)
    text = json.dumps({"op": "generate", "prompt": "two", "max_tokens": 6, "ref": 2})
    await client.send(TextMessage(data=text[:9], message_finished=False))
    await client.send(Ping(payload=b"amid"), TextMessage(data=text[9:]), Ping(payload=b"behind"))
    await client.until(lambda: client.has_ended(1, 2) and len(client.heard.pongs) == 2)
    await client.send(CloseConnection(code=1000))
    await client.until(lambda: client.heard.closed is not None)
    await client.until_end()


async def test_death_at_each_step_repeats_and_loses_nothing(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lives_of(node.node, monkeypatch) as lives:
        heard = await die_at_each(lives, two_streams)
        assert (await node.node.ledger.statistics()).accepted_total == 2 * lives.client_count
    assert heard.replies == [(1, "accepted "), (2, "accepted ")]
    assert (text_of(heard, 1), text_of(heard, 2)) == (oracle("one", 4), oracle("two", 6))
    assert (heard.pongs, heard.closed) == ([b"amid", b"behind"], (1000, ""))


async def many_operations(client: PlainClient) -> None:
    """Every operation, each with a reply of its own, and mistakes among them."""
    await client.handshake()
    await client.say("long", op="generate", prompt="long", max_tokens=4000)
    await client.until(lambda: bool(client.heard.events["long"]))
    await client.say("stop", op="cancel", id=client.ids["long"])
    await client.say("wrong", op="nonsense")
    await client.say("nothing", op="attach", id="req_nothing")
    await client.say("x" * 5000, op="generate", prompt="reply", max_tokens=2)
    await client.until(lambda: len(client.heard.replies) == 5 and client.has_ended("long", "x" * 5000))
    await client.say("ended", op="attach", id=client.ids["x" * 5000], after=3)
    await client.say("again", op="attach", id=client.ids["x" * 5000], after=1)
    await client.say("stop again", op="cancel", id=client.ids["x" * 5000])
    await client.until(lambda: len(client.heard.replies) == 8 and client.has_ended("again"))
    # How long the cancelled answer became is chance.
    long = client.heard.events.pop("long")
    assert [event for event, _ in long] == ["token"] * (len(long) - 1) + ["done"]
    assert [message["seq"] for _, message in long] == [*range(1, len(long) + 1)]
    assert "".join(message["text"] for _, message in long[:-1]) == oracle("long", len(long) - 1)
    assert long[-1][1]["finish_reason"] == "cancelled"


@pytest.mark.keeper
async def test_death_around_every_operation(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lives_of(node.node, monkeypatch) as lives:
        heard = await die_at_each(lives, many_operations)
    assert heard.replies == [
        ("long", "accepted "),
        ("stop", "cancelled True"),
        ("wrong", "error INVALID_REQUEST"),
        ("nothing", "error NOT_FOUND"),
        ("x" * 5000, "accepted "),
        ("ended", "ended "),
        ("again", "accepted "),
        ("stop again", "cancelled False"),
    ]
    assert [message["seq"] for _, message in heard.events["again"]] == [2, 3]


@pytest.mark.keeper
async def test_death_among_many_streams_of_one_socket(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client reads slowly, and the kernel takes parts of frames."""
    refs = range(8)

    async def talk(client: PlainClient) -> None:
        await client.handshake()
        for ref in refs:
            await client.say(ref, op="generate", prompt=f"prompt {ref}", max_tokens=3 + ref)
        await client.until(lambda: client.has_ended(*refs))

    async with lives_of(node.node, monkeypatch) as lives:
        lives.most_sent = 200
        heard = await die_at_each(lives, talk, SO_RCVBUF=2304)
    for ref in refs:
        assert text_of(heard, ref) == oracle(f"prompt {ref}", 3 + ref)


@pytest.mark.keeper
async def test_death_around_a_close_by_the_server(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends a frame of an unknown kind."""

    async def talk(client: PlainClient) -> None:
        await client.handshake()
        await client.say(1, op="generate", prompt="p", max_tokens=2)
        await client.until(lambda: client.has_ended(1))
        await client.stream.send_all(b"\x83\x80abcd")
        await client.until(lambda: client.heard.closed is not None)
        await client.until_end()

    async with lives_of(node.node, monkeypatch) as lives:
        heard = await die_at_each(lives, talk)
    assert heard.closed is not None
    assert heard.closed[0] == 1002


async def test_ticket_opens_one_socket_over_many_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_node(mock_model("step_ms=1"), api_key="s3cret") as node:
        await node.wait_ready()
        tickets: list[str] = []

        async def talk(client: PlainClient) -> None:
            answer = await node.client.post("/v1/ws/tickets", headers={"x-api-key": "s3cret"})
            tickets.append(answer.json()["ticket"])
            await client.handshake(f"/v1/ws?ticket={tickets[-1]}")
            await client.say(1, op="generate", prompt="p", max_tokens=2)
            await client.until(lambda: client.has_ended(1))

        async with lives_of(node.node, monkeypatch) as lives:
            heard = await die_at_each(lives, talk)
            assert text_of(heard, 1) == oracle("p", 2)
            async with lives.client() as stream:
                other = PlainClient(stream)
                await other.handshake(f"/v1/ws?ticket={tickets[-1]}")
                assert other.heard.refused == 401


@pytest.mark.keeper
async def test_death_around_a_refused_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(client: PlainClient) -> None:
        await client.handshake()
        await client.until_end()

    async with local_node(mock_model("step_ms=1"), api_key="s3cret") as node:
        await node.wait_ready()
        async with lives_of(node.node, monkeypatch) as lives:
            assert (await die_at_each(lives, talk)).refused == 401


@pytest.mark.keeper
async def test_cancel_right_before_the_close_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_node(mock_model("step_ms=1,slots=8"), resume_grace_s=600) as node:
        await node.wait_ready()

        async def talk(client: PlainClient) -> None:
            await client.handshake()
            await client.say(1, op="generate", prompt="p", max_tokens=8000)
            await client.until(lambda: 1 in client.ids)
            cancel = TextMessage(data=json.dumps({"op": "cancel", "id": client.ids[1]}))
            await client.send(cancel, CloseConnection(code=1000))
            with trio.fail_after(HEAR_S):
                while (await node.node.ledger.info(client.ids[1])).state != "ended":  # noqa: ASYNC110 - nothing tells
                    await trio.sleep(0.002)
            client.heard = Heard()

        async with lives_of(node.node, monkeypatch) as lives:
            await die_at_each(lives, talk)
