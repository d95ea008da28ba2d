"""No input of one connection holds the event loop: a table of shapes, each sent as a flood by another process."""

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from llmactors.backends.directory import ModelDirectory
from llmactors.gateway.app import App
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.operators import OperatedNode
from llmactors.http.server import ListeningSocket, Server, ServerSettings
from llmactors.telemetry import Metrics
from llmactors.testing.node import local_node, mock_model
from tests.conftest import Figures
from tests.support.longest_hold import LongestHold

pytestmark = [pytest.mark.integration]

MEGABYTE = 1024 * 1024
MOST_S = 0.02
"""The longest time in which one connection may hold the loop."""
TRIES = 3


def post(body: bytes, path: str = "/v1/chat/completions") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


def filled(before: bytes, item: bytes, after: bytes, size: int = MEGABYTE) -> bytes:
    """A body of about `size` bytes that repeats `item`."""
    return before + item * ((size - len(before) - len(after)) // len(item)) + after


def chat(item: bytes) -> bytes:
    return post(filled(b'{"model":"mock","messages":[', item, b'{"role":"user","content":"x"}]}'))


def image(url: bytes) -> bytes:
    """A chat with one image, refused after the image is read: the mock would hash the image in the same event loop."""
    part = b'{"type":"image_url","image_url":{"url":"%b"}}' % url
    return post(b'{"model":"mock","messages":[{"role":"user","content":[%b]}],"max_tokens":100000}' % part)


HELLO = b'{"model":"mock","messages":[{"role":"user","content":"x"}],"max_tokens":100000'
"""A chat that is refused once its schemas are converted: the mock would follow the grammar in the same event loop."""
TOOL = b',"tools":[{"type":"function","function":{"name":"f","parameters":{%b}}}]}'
FORM = b',"response_format":{"type":"json_schema","json_schema":{"schema":{%b}}}}'


def with_schema(schema: bytes, where: bytes) -> bytes:
    """A chat with a schema at a place in its body."""
    return post(HELLO + where.replace(b"%b", schema))


def properties(count: int) -> bytes:
    return b",".join(b'"p%d":{"type":"string","maxLength":%d}' % (number, number + 1) for number in range(count))


HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASK = b"\0\0\0\0"


def frame(opcode: int, data: bytes = b"", *, final: bool = True) -> bytes:
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xff" + len(data).to_bytes(8)
    return bytes([(0x80 if final else 0) | opcode]) + length + MASK + data


SHAPES: dict[str, Callable[[], bytes]] = {
    "short headers": lambda: filled(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n", b"a:\r\n", b"\r\n", 64 * 1024),
    "one long header": lambda: b"GET /livez HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 64 * 1024 + b"\r\n\r\n",
    "long target": lambda: b"GET /v1/streams/" + b"%2f" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "query of many parameters": lambda: (
        b"GET /v1/responses/resp_x?" + b"a=&" * 5000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"
    ),
    "ticket among many parameters": lambda: HANDSHAKE.replace(b"/v1/ws", b"/v1/ws?" + b"a=&" * 4000 + b"ticket=x"),
    "folded header": lambda: filled(
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\na: b\r\n", b" \r\n", b"\r\n", 15 * 1024
    ),
    "pipeline": lambda: b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" * 500,
    "pipeline with a long head behind": lambda: (
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
        + filled(b"GET / HTTP/1.1\r\nhost: localhost\r\n", b"a:\r\n", b"\r\n", 60_000)
    ),
    "chunks of one byte": lambda: filled(
        b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
        b"0\r\n\r\n",
    ),
    "trailers": lambda: filled(
        b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
        b"a:\r\n",
        b"\r\n",
        64 * 1024,
    ),
    "lists in a body": lambda: post(filled(b'{"prompt":[', b"[],", b"[]]}"), "/v1/generate"),
    "as many lists as are accepted": lambda: post(filled(b'{"a":[', b"[],", b"[]]}", 149_000), "/v1/generate"),
    "as many fields as are accepted": lambda: post(
        b'{"a":{' + b",".join(b'"%d":1' % number for number in range(49_000)) + b"}}", "/v1/generate"
    ),
    "as many objects and fields as are accepted": lambda: chat(b'{"role":1},' + b" " * 32),
    "brackets in a text": lambda: post(b'{"prompt":"' + b"[{" * 500_000 + b'"}', "/v1/generate"),
    "large image": lambda: image(b"data:image/png;base64," + b"QUJD" * 2_000_000),
    "image of escapes": lambda: image(b"data:image/png;base64," + rb"\/" * 599_000 + b"QUJD" * 1_600_000),
    "many small images": lambda: post(
        filled(
            b'{"model":"mock","messages":[{"role":"user","content":[',
            b'{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},',
            b'{"type":"text","text":"x"}]}]}',
        )
    ),
    "escapes and brackets in texts": lambda: post(
        filled(b'{"a":[', rb'"[[[[[[[[[[[\\\"\"\"",', b"1]}"), "/v1/generate"
    ),
    "objects in a body": lambda: post(filled(b'{"a":[', b"{},", b"{}]}"), "/v1/generate"),
    "numbers in a body": lambda: post(filled(b'{"model":"mock","prompt":[', b"1,", b"1]}"), "/v1/completions"),
    "fields of a body": lambda: post(
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}", "/v1/generate"
    ),
    "nested lists": lambda: post(b"[" * 500_000 + b"]" * 500_000, "/v1/generate"),
    "empty messages": lambda: chat(b"{},"),
    "small messages": lambda: chat(b'{"role":"user","content":"x"},'),
    "content parts": lambda: post(
        filled(b'{"model":"mock","messages":[{"role":"user","content":[', b'{"type":"text","text":""},', b"{}]}]}")
    ),
    "role that is a list": lambda: post(
        filled(b'{"model":"mock","messages":[{"role":[', b'"a",', b'"a"],"content":"x"}]}')
    ),
    "calls in a history": lambda: post(
        filled(
            b'{"model":"mock","messages":[{"role":"assistant","tool_calls":[',
            b'{"function":{"name":"f","arguments":"{}"}},',
            b"{}]}]}",
        )
    ),
    "tools": lambda: post(
        filled(
            b'{"model":"mock","messages":[{"role":"user","content":"x"}],"tools":[',
            b'{"type":"function","function":{"name":"f"}},',
            b"{}]}",
        )
    ),
    "properties of a tool": lambda: with_schema(b'"properties":{%b}' % properties(20_000), TOOL),
    "as many properties as are served": lambda: with_schema(b'"properties":{%b}' % properties(290), TOOL),
    "many tools with large schemas": lambda: post(
        HELLO
        + b',"tools":[%b]}'
        % b",".join(
            b'{"type":"function","function":{"name":"f%d","parameters":{"type":"object","properties":{%b}}}}'
            % (number, properties(200))
            for number in range(60)
        )
    ),
    "schema of many values": lambda: with_schema(b'"enum":[%b]' % b",".join(b'"v%d"' % n for n in range(50_000)), FORM),
    "schema of properties": lambda: with_schema(b'"properties":{%b}' % properties(290), FORM),
    "schema with a long pattern": lambda: with_schema(b'"type":"string","pattern":"%b"' % (b"(a|b){9}" * 120), FORM),
    "nested schema": lambda: with_schema(b'"items":{' * 900 + b"}" * 900, FORM),
    "short pattern that is ambiguous": lambda: with_schema(b'"type":"string","pattern":"((a{0,9}){0,9}){0,9}"', FORM),
    "strings of unlike lengths": lambda: with_schema(b'"type":"string","minLength":1000,"maxLength":20000', FORM),
    "log probabilities of a long answer": lambda: post(
        b'{"model":"mock","messages":[{"role":"user","content":"x"}],"max_tokens":2500,"logprobs":true,"top_logprobs":20}'
    ),
    "log probabilities of a long response": lambda: post(
        b'{"model":"mock","input":"x","max_output_tokens":2500,"top_logprobs":20}', "/v1/responses"
    ),
    "log probabilities of a long stream": lambda: post(
        b'{"model":"mock","input":"x","max_output_tokens":2500,"top_logprobs":20,"stream":true}', "/v1/responses"
    ),
    "large grammar": lambda: post(HELLO + b',"grammar":"root ::= %b"}' % (b"[a-z]+ " * 4000)),
    "prompts": lambda: post(filled(b'{"model":"mock","prompt":[', b'"ab",', b'"ab"]}'), "/v1/completions"),
    "lists of ids": lambda: post(filled(b'{"model":"mock","prompt":[', b"[1],", b"[1]]}"), "/v1/completions"),
    "input items": lambda: post(filled(b'{"model":"mock","input":[', b"{},", b"{}]}"), "/v1/responses"),
    "biases": lambda: post(
        b'{"model":"mock","prompt":"x","logit_bias":{' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}",
        "/v1/completions",
    ),
    "stop strings": lambda: post(filled(b'{"prompt":"x","stop":[', b'"ab",', b'"ab"]}'), "/v1/generate"),
    "long text": lambda: post(b'{"prompt":"' + b"a" * (MEGABYTE - 100) + b'"}', "/v1/generate"),
    "text of escapes": lambda: post(filled(b'{"prompt":"', b"\\u00e9", b'"}'), "/v1/generate"),
    "empty frames": lambda: HANDSHAKE + frame(1, b"{", final=False) + frame(0, final=False) * 20_000,
    "pings": lambda: HANDSHAKE + frame(9) * 20_000,
    "messages that are no JSON": lambda: HANDSHAKE + frame(1, b"x") * 5000,
    "cancels": lambda: HANDSHAKE + frame(1, b'{"op":"cancel","id":"x"}') * 3000,
    "message of lists": lambda: HANDSHAKE + frame(1, filled(b'{"a":[', b"[],", b"[]]}", MEGABYTE - 10)),
    "binary frames": lambda: HANDSHAKE + frame(2, b"") * 10_000,
}
ANSWERED = b"logprobs"
"""What is in the shapes whose answer holds the loop, if anything does. Its making takes a while."""
FLOOD = """
import select, socket, sys, time
host, port, seconds, data = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), open(sys.argv[4], "rb").read()
handshake = sys.argv[5].encode("latin-1")
until = time.monotonic() + seconds
connections = 0
while time.monotonic() < until:
    with socket.create_connection((host, port)) as client:
        connections += 1
        client.settimeout(5)
        try:
            if data.startswith(handshake):
                client.sendall(handshake)
                client.recv(65536)
            client.sendall(data.removeprefix(handshake))
            client.settimeout(float(sys.argv[6]))
            while client.recv(65536):  # a client that ends its side gets no answer that takes a while
                client.settimeout(0.05)
        except OSError:
            pass
print(connections)
"""


async def flood(port: int, data: bytes, path: Any, seconds: float) -> int:
    """Sends `data` on one connection after the other, from another process. Returns the number of connections.

    Frames are sent after the answer to the handshake before them: the server refuses frames that come earlier.
    """
    path.write_bytes(data)
    handshake, patience_s = HANDSHAKE.decode("latin-1"), "5" if ANSWERED in data else "0.2"
    command = [sys.executable, "-c", FLOOD, "127.0.0.1", str(port), str(seconds), str(path), handshake, patience_s]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.DEVNULL)
    return int(done.stdout)


async def longest_holds(port: int, tmp_path: Any) -> dict[str, LongestHold]:
    """The longest hold while each shape comes on one connection after the other.

    Each shape takes less than half of `MOST_S` on an idle machine. A longer hold is measured again, because another
    process may have taken the core's caches.
    """
    gc.freeze()
    holds = {name: await longest_hold(port, shape(), tmp_path) for name, shape in SHAPES.items()}
    gc.unfreeze()
    return holds


async def longest_hold(port: int, data: bytes, tmp_path: Any) -> LongestHold:
    found: list[LongestHold] = []
    while len(found) < TRIES and (not found or found[-1].seconds > MOST_S):
        found.append(LongestHold())
        trio.lowlevel.add_instrument(found[-1])
        try:
            await flood(port, data, tmp_path / "flood", 0.05 if len(found) > 1 else 0.15)
        finally:
            trio.lowlevel.remove_instrument(found[-1])
    return min(found, key=lambda hold: hold.seconds)


def check_holds(holds: dict[str, LongestHold], figures: Figures, where: str) -> None:
    for name, hold in holds.items():
        figures(f"longest hold of the loop, {where}", name, f"{hold.seconds * 1000:.1f} ms")
    assert {name: repr(hold) for name, hold in holds.items() if hold.seconds > MOST_S} == {}


async def test_no_shape_of_input_holds_a_gateway(tmp_path: Any, figures: Figures) -> None:
    async with local_node(mock_model("context=100000,images=true")) as node:
        holds = await longest_holds(node.port, tmp_path)
        assert (await node.client.get("/livez")).status_code == 200
    check_holds(holds, figures, "gateway")


async def test_no_shape_of_input_holds_a_worker(tmp_path: Any, figures: Figures) -> None:
    """On the port for its operators."""
    directory = ModelDirectory(("m",))
    operated = OperatedNode(
        problems=directory.problems,
        tree=lambda: None,  # type: ignore[arg-type,return-value]
        metrics=Metrics(),
        directory=directory,
        draining=lambda: False,
    )
    listening = ListeningSocket("127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(App(None, operated), listening, ServerSettings(), NATIVE_ERRORS).serve)
        holds = await longest_holds(listening.socket.getsockname()[1], tmp_path)
        nursery.cancel_scope.cancel()
    listening.close()
    check_holds(holds, figures, "worker")
