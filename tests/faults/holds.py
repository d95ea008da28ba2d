"""The loop is held, or a clock blames the innocent."""

from tests.faults.fault import Edit, Fault

_LONG = "Empty continuation frames of a WebSocket, thousands of headers, or a long list"
_PAUSE = "A process that was stopped for some seconds"
_GATEWAY = ("tests/integration/gateway/test_longest_hold.py:test_no_shape_of_input_holds_a_gateway",)
_WORKER = ("tests/integration/gateway/test_longest_hold.py:test_no_shape_of_input_holds_a_worker",)

FAULTS = (
    Fault(
        _LONG,
        (
            Edit("http/websocket_stream.py", "if self._handled % FRAMES_AT_ONCE == 0:", "if False:"),
            Edit("http/websocket_stream.py", "if self._frames > MAX_FRAMES:", "if False:"),
            Edit("http/connection.py", "READ_BYTES = 16 * 1024", "READ_BYTES = 64 * 1024"),
        ),
        _GATEWAY,
    ),
    Fault(
        _LONG,
        (
            Edit("http/request_head.py", "self._bytes > MAX_HEAD_BYTES or self._lines > MAX_HEADERS + 2", "False"),
            Edit(
                "http/begun_response.py", "max_incomplete_event_size=MAX_HEAD_BYTES", "max_incomplete_event_size=65536"
            ),
        ),
        (*_GATEWAY, *_WORKER),
    ),
    Fault(_LONG, (Edit("gateway/body.py", "await _check_items(data, what)", "pass"),), _GATEWAY),
    Fault(
        _PAUSE,
        (
            Edit("system/node.py", "lease_s=math.inf, affinity_wait_s=0.0", "affinity_wait_s=0.0"),
            Edit("system/running_clock.py", "if step_s > LONGEST_STEP_S:", "if False:"),
        ),
        ("tests/chaos/test_pauses.py:test_pauses_of_one_process_convict_nobody",),
    ),
    Fault(
        _PAUSE,
        (
            Edit(
                "ledger/core/leases.py",
                "worker.due = now + self._lease_s",
                "worker.due = now + min(5.0, self._lease_s)",
            ),
            Edit(
                "ledger/core/lifecycle.py",
                "        charged = self.leases.others_beat(self._now())\n",
                '        return self.end_lease(lease, "the worker is late")\n',
            ),
        ),
        ("tests/virtual/batcher/test_pauses.py:test_pauses_of_the_process_cost_no_attempt",),
    ),
    Fault(
        "A stop of several processes of a cluster",
        (
            Edit("ledger/redis/leases.lua", "if not counts then r.at = r.at - 1 end", ""),
            Edit("ledger/redis/leases.lua", "if counts then put(c, r, 'at', r.at - 1) end", ""),
            Edit("ledger/redis/leases.lua", "and silent_attempts(r) + 1 >= SILENT_ATTEMPTS_MAX then", "then"),
        ),
    ),
    Fault(
        "Idle connections from one address",
        (
            Edit(
                "http/server.py",
                "            self._restrict(connection, refusal)\n",
                "            raw.close()\n            return\n",
            ),
        ),
    ),
    Fault(
        "A node does not respect the limit of open files",
        (Edit("http/server.py", "within_file_limit(self._settings.capacity)", "self._settings.capacity"),),
    ),
    Fault(
        "Unfinished messages of many sockets",
        (
            Edit(
                "http/byte_budget.py",
                "if self.held + count > (self._most // 2 if of_large else self._most):",
                "if False:",
            ),
        ),
    ),
    Fault(
        "A crowd at the limiter",
        (
            Edit("gateway/limit_check.py", "import Unavailable", "import DeadlineExceeded, Unavailable"),
            Edit(
                "gateway/limit_check.py",
                'raise Unavailable("the rate limiter does not answer; try again in a moment", retry_after_s=1.0)',
                'raise DeadlineExceeded(f"{limiter.path} expired in its mailbox")',
            ),
        ),
    ),
    Fault(
        "A gateway whose clock is wrong",
        (
            Edit(
                "ledger/redis/codec.py",
                'deadline += f"+{max(0, request.timeout_ms - waited_ms)}"',
                'deadline = str(round(__import__("time").time() * 1000) + request.timeout_ms)',
            ),
        ),
    ),
    Fault(
        "A text with many brackets",
        (Edit("gateway/body.py", "items += sum(map(len, marks", "items = at_most or sum(map(len, marks"),),
    ),
    Fault(
        "4000 tokens with 20 log probabilities",
        (Edit("gateway/whole_answers.py", "if cost_us <= _AT_ONCE_US:", "if True:"),),
    ),
    Fault(
        "A call with 201 tools",
        (
            Edit(
                "tool_calls/call_grammar.py",
                "    beginning = _common_beginning(ways)\n",
                "    return choice([sequence(name, way) for name, way in ways.items()])\n",
            ),
        ),
    ),
)
