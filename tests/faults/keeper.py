"""Connections that outlive their gateway: what is written down, and when."""

import textwrap

from tests.faults.fault import Edit, Fault

_STORED = """if size < len(STORES):
            at = self._places[generation & 1] - (size + 7 & -8)
            STORES[size](self._slots, at, chunk, begin, reached, size, 0, _OF_TOKEN, generation)
        else:
            store_record(self._slots, self._slot, generation, begin, reached, _OF_TOKEN, b"", chunk)
"""

FAULTS = (
    Fault(
        "A write is recorded after",
        (
            Edit(
                "http/held_connection.py",
                f"        {_STORED}        try:\n            sent = self._raw.send(chunk)\n",
                "        try:\n            sent = self._raw.send(chunk)\n"
                + textwrap.indent(f"        {_STORED}", "    "),
            ),
        ),
        cases="native",
    ),
    Fault(
        "The position of a connection is read once",
        (
            Edit(
                "http/tcp_position.py",
                "        if (now := _counter(info, _ACKED)) == acked:\n",
                "        if (now := _counter(info, _ACKED)) or True:\n",
            ),
        ),
    ),
    Fault(
        "Bytes of a request are taken before",
        (
            Edit(
                "http/held_connection.py",
                "                    await self._keep(data)\n                    self._throw_away(len(data))\n",
                "                    self._throw_away(len(data))\n                    await self._keep(data)\n",
            ),
        ),
        cases="native",
    ),
    Fault(
        "The older of two records",
        (
            Edit(
                "http/continuation.py",
                "    newest = left.records[0] if left.records else None\n",
                "    newest = left.records[-1] if left.records else None\n",
            ),
        ),
    ),
    Fault(
        "A request that two gateways read",
        (Edit("http/held_connection.py", 'self._origin = f"{link.token}:', 'self._origin = f"{id(self)}:'),),
        cases="native",
    ),
    Fault(
        "An answer that goes on begins",
        (
            Edit(
                "gateway/streaming/resuming.py",
                "        had, new = split(taken, seq)\n",
                "        had, new = split(taken, seq - 1)\n",
            ),
            Edit(
                "gateway/request_service.py",
                "            follower = await self._ledger.follow(request_id, seq)\n",
                "            follower = await self._ledger.follow(request_id, max(0, seq - 1))\n",
            ),
        ),
        cases="native",
    ),
    Fault(
        "The end of a client that left",
        (
            Edit(
                "http/taken_connection.py",
                "            await self._protocol.received(journal)\n",
                "            del journal\n",
            ),
        ),
    ),
    Fault(
        "A change of an operator is made by two",
        (Edit("gateway/app.py", "            exchange.check_first_time()\n", "            pass\n"),),
    ),
    Fault(
        "A part of an answer is rendered twice",
        (
            Edit(
                "gateway/streaming/sse_stream.py",
                "self._leave(partial(self._write_rendered, data, part, more))",
                "self._leave(partial(self._write, [part, *more]))",
            ),
        ),
    ),
    Fault(
        "The last messages of a gateway that died are lost",
        (
            Edit(
                "keeper/gateway_process.py",
                "            continue  # the other side",
                "            return  # the other side",
            ),
        ),
    ),
    Fault(
        "A connection is cut because its gateways were killed",
        (Edit("keeper/takeover.py", "if was_killed else 0.0", "if False else 0.0"),),
    ),
    Fault(
        "A gateway that started while no worker ran",
        (
            Edit(
                "cluster/models.py",
                "if self.get(each.name) is None and each.capabilities",
                "if False and each.capabilities",
            ),
        ),
    ),
    Fault(
        "A gateway that has not looked at the workers",
        (Edit("cluster/first_look.py", "if not self.is_taken:", "if False:"),),
    ),
    Fault(
        "An answer is cut because its client reads it later",
        (Edit("ledger/core/archive.py", "now if record.readers else record.read_at", "record.ended_at"),),
    ),
    Fault(
        "A connection is cut because kills met it now and then",
        (Edit("keeper/takeover.py", "            self._kills.pop(cid, None)\n", ""),),
    ),
    Fault(
        "A connection for which memory runs out",
        (Edit("keeper/takeover.py", "if death is not Death.KILLED:", "if death in {Death.CRASHED, Death.FROZEN}:"),),
    ),
    Fault(
        "A connection is cut for the crash",
        (
            Edit(
                "keeper/takeover.py",
                "return recent[0] if crashes >= MOST_CRASHES",
                "return recent[-1] if crashes >= 0",
            ),
        ),
    ),
    Fault(
        "A connection is cut because gateways crash for reasons",
        (
            Edit(
                "keeper/takeover.py",
                "crashes >= MOST_CRASHES or",
                "crashes >= 0 or",
            ),
        ),
    ),
    Fault(
        "A crash of the gateway's actor cuts connections",
        (Edit("http/held_server.py", "if self._open and not self._may_end:", "if False:"),),
    ),
    Fault(
        "A client that never sends its whole head",
        (Edit("http/taken_connection.py", "self._reading.deadline -= self._age_s", "pass"),),
    ),
    Fault(
        "Begun answers are cut where Redis is away",
        (
            Edit(
                "gateway/request_service.py",
                "        context = None if trace",
                "        self.check_takes_work()\n        context = None if trace",
            ),
        ),
    ),
    Fault(
        "A request that waits behind a stream",
        (
            Edit(
                "http/taken_connection.py",
                "self._ahead = self._ahead[begun.next_at - self._journal.request_at :]",
                'self._ahead = b""',
            ),
        ),
    ),
    Fault(
        "A stream goes on at the next gateway for a key",
        (
            Edit(
                "gateway/app.py",
                "caller = self._auth.recall(note.credential, note.client or client_host(client))",
                'caller = Caller("anonymous", "")',
            ),
        ),
    ),
    Fault(
        "A stream that goes on at the next gateway is not counted",
        (
            Edit(
                "gateway/app.py",
                "await self._serve_counted(exchange, route.family, resource, answer)",
                "await answer()",
            ),
        ),
        ("tests/integration/http/test_held_streams.py:test_stream_is_counted_and_logged",),
    ),
    Fault(
        "A stream that goes on at the next gateway is not counted",
        (Edit("gateway/openai/choices.py", "keyed=begun.note.keyed)", "keyed=True)"),),
        ("tests/integration/http/test_held_streams.py:test_disconnect_ends_what_it_always_ends",),
    ),
    Fault(
        "A stream that goes on at the next gateway is not counted",
        (
            Edit(
                "gateway/app.py",
                "with self._rules.counting(scope), self._noting(exchange):",
                "with self._rules.counting(scope):",
            ),
        ),
        ("tests/integration/http/test_held_streams.py:test_stream_is_found_and_ended_by_its_node",),
    ),
    Fault(
        "A stream that goes on at the next gateway is not counted",
        (Edit("gateway/app.py", "        self._rules.recall_client(scope, note.client)\n", ""),),
        ("tests/integration/http/test_held_streams.py:test_client_behind_a_proxy_stays_known",),
    ),
    Fault(
        "The next gateway refuses a connection under a limit",
        (Edit("http/server.py", "if refusal is not None and not is_known:", "if refusal is not None:"),),
    ),
    Fault(
        "A gateway that was stopped, or whose loop",
        (Edit("keeper/silence.py", 'if state in {"S", "T"}:', 'if state == "S":'),),
    ),
    Fault(
        "A gateway is ended as frozen while it waits for a core",
        (
            Edit(
                "keeper/silence.py",
                'return 0.0 if state == "t" else min(used_s, passed_s)',
                "return passed_s",
            ),
            Edit("keeper/silence.py", "min(now - self._looked_at, 2 * LOOK_S)", "now - self._looked_at"),
        ),
    ),
    Fault(
        "The frames of a WebSocket are read again",
        (
            Edit(
                "http/held_websocket.py",
                "        end = self._boundary = self._fed - unparsed\n        self._waiting",
                "        end = self._boundary = self._fed - unparsed - 1\n        self._waiting",
            ),
        ),
    ),
    Fault(
        "The seq of one stream of a WebSocket",
        (
            Edit(
                "gateway/native/followed_streams.py",
                "self._set(stream.place, (seq + 1)",
                "self._set(stream.place ^ (seq > 2), (seq + 1)",
            ),
        ),
    ),
    Fault(
        "A message on a WebSocket counts as dealt with",
        (Edit("http/held_websocket.py", "        self._waiting.append(end)\n", "        self.frames_at = end\n"),),
    ),
    Fault(
        "A message on a WebSocket that two gateways read",
        (Edit("http/held_websocket.py", 'HeldMessage(f"{self._origin}:{end}"', 'HeldMessage(f"{id(self)}:{end}"'),),
    ),
    Fault(
        "A ping is answered by two gateways",
        (Edit("http/held_websocket.py", "        if ping_end <= self._ponged:\n", "        if not ping_end:\n"),),
    ),
    Fault(
        "A large frame of a WebSocket is forgotten",
        (Edit("http/held_connection.py", "if flags & SOCKET and not flags & LARGE:", "if flags & SOCKET:"),),
    ),
    Fault(
        "A cancel that two gateways read",
        (Edit("gateway/request_service.py", "if held is None or not held.is_repeated:", "if True:"),),
    ),
    Fault(
        "A message right before the close of a WebSocket",
        (
            Edit(
                "http/taken_connection.py",
                "if self._left_websocket is not None and self._ahead:",
                "if self._left_websocket is not None and False:",
            ),
        ),
    ),
    Fault(
        "The ticket of a WebSocket is used up",
        (
            Edit(
                "gateway/app.py",
                "handshake = None if held_websocket(scope) is None else _request_id(scope)",
                "handshake = None",
            ),
        ),
    ),
)
