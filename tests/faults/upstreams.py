"""An upstream that is not quite OpenAI."""

from tests.faults.fault import Edit, Fault

_ANSWER = "backends/openai/responses/answer.py"
_BODIES = "tests/integration/backends/test_openai_bodies.py"
_CHUNKS = "backends/openai/responses/chunks.py"
_CHUNK_BODY = "backends/openai/responses/chunk_body.py"
_CHUNK_TESTS = "tests/unit/backends/openai/test_chunks.py"
_FAULTS = "backends/openai/routing/faults.py"
_FORMS = "`choices` or data of null, content in parts"
_FRAMES = "A whole answer in place of a stream"
_READ_WHOLE = (f"{_CHUNK_TESTS}:test_answer_of_each_server_is_read_whole",)

FAULTS = (
    Fault(
        "`stream_options`, `temperature` and `top_p` are sent",
        (
            Edit(
                "backends/openai/requests/body.py",
                "for name in DEFAULTABLE if name not in request.defaulted}",
                "for name in DEFAULTABLE}",
            ),
        ),
        ("tests/unit/backends/openai/test_omissions.py:test_fields_that_no_client_gave_are_not_sent",),
    ),
    Fault(
        "`stream_options`, `temperature` and `top_p` are sent",
        (
            Edit(
                "backends/openai/requests/omissions.py",
                "blamed = [name for name in named if name in sent and name in NEEDLESS]",
                "blamed: list[str] = []",
            ),
        ),
        (f"{_BODIES}:test_upstream_without_our_fields_is_asked_without_them",),
    ),
    Fault(
        "A refusal of a field does not say which field",
        (Edit(_FAULTS, "if field else ''", "if not field else ''"),),
    ),
    Fault(
        _FORMS,
        (Edit(_CHUNK_BODY, "choices: list[ChunkChoice | None] | None = None", "choices: list[ChunkChoice] = []"),),
        _READ_WHOLE,
    ),
    Fault(
        _FORMS,
        (Edit(_CHUNKS, "        if body is None:\n            return None\n", "        assert body is not None\n"),),
        _READ_WHOLE,
    ),
    Fault(
        _FORMS,
        (
            Edit(
                _CHUNK_BODY,
                'texts += [part[name] for name in ("text", "refusal")',
                "texts += [part[name] for name in ()",
            ),
        ),
        _READ_WHOLE,
    ),
    Fault(
        _FORMS,
        (Edit(_CHUNK_BODY, "int(float(number)) if isinstance(number, str)", "0 if isinstance(number, str)"),),
        _READ_WHOLE,
    ),
    Fault(
        _FORMS,
        (
            Edit(
                "backends/openai/responses/split_characters.py",
                'if whole and "\\ud800" <= whole[-1] <= "\\udbff":',
                "if not whole:",
            ),
        ),
        (f"{_CHUNK_TESTS}:test_no_character_is_lost_where_a_server_cuts_it",),
    ),
    Fault(
        _FORMS,
        (
            Edit(
                "backends/openai/responses/call_places.py",
                "at = self._find(index, call_id, name)",
                "at = self._by_index.get(index or 0)",
            ),
            Edit(
                "backends/openai/responses/call_places.py",
                "        if index is not None:\n            self._by_index[index] = at\n",
                "        self._by_index[index or 0] = at\n",
            ),
        ),
        (f"{_CHUNK_TESTS}:test_parts_of_calls_are_told_apart",),
    ),
    Fault(
        _FORMS,
        (Edit("http/sse_reader.py", "return piece.removeprefix(_BOM)", "return piece"),),
        _READ_WHOLE,
    ),
    Fault(
        _FORMS,
        (
            Edit(
                "http/sse_reader.py",
                'piece.replace(b"\\r\\n", b"\\n").replace(b"\\r", b"\\n")',
                'piece.replace(b"\\r\\n", b"\\n")',
            ),
        ),
        _READ_WHOLE,
    ),
    Fault(
        _FORMS,
        (Edit("http/sse_reader.py", 'piece = piece.removeprefix(b"\\n")', "pass"),),
        (f"{_CHUNK_TESTS}:test_chunks_of_each_server_are_the_same_in_any_split",),
    ),
    Fault(
        "An error object as a chunk is passed over",
        (Edit(_CHUNKS, 'if body.object == "error":', "if False:"),),
    ),
    Fault(
        "An error object as a chunk is passed over",
        (Edit(_CHUNKS, "        if error:\n", "        if False:\n"),),
    ),
    Fault(
        "`abort`, `error` or `max_tokens` as a finish reason",
        (Edit(_CHUNK_BODY, 'return "error" if bare in _BROKEN else "stop"', 'return "stop"'),),
    ),
    Fault(
        "`abort`, `error` or `max_tokens` as a finish reason",
        (Edit(_CHUNK_BODY, "if bare in _LENGTH:", 'if bare == "length":'),),
    ),
    Fault(
        "Text behind a finish reason",
        (Edit(_ANSWER, "if chunk.text and not self.stopped:", "if chunk.text and self.finish is None:"),),
        ("tests/unit/backends/openai/test_answer.py:test_text_behind_a_finish_reason_is_kept",),
    ),
    Fault(
        "Text behind a finish reason",
        (Edit(_CHUNKS, "                if not chunks:\n                    raise\n", "                raise\n"),),
        (f"{_CHUNK_TESTS}:test_chunks_before_a_fault_are_not_lost",),
    ),
    Fault(_FRAMES, (Edit(_CHUNKS, 'if first in {b"{", b"["}:', "if False:"),)),
    Fault(
        _FRAMES,
        (
            Edit(
                "http/client_response.py",
                'if parser.head.headers.get("content-encoding", "").lower() in CODINGS else None',
                "if False else None",
            ),
        ),
    ),
    Fault(
        _FRAMES,
        (
            Edit(
                "backends/openai/requests/upstream.py",
                " and _kind(response) in _READABLE:",
                ' and _kind(response) == "text/event-stream":',
            ),
        ),
    ),
    Fault(
        "`[DONE]` without a finish reason",
        (Edit(_ANSWER, "if self.begun and (self._is_counted or trusts_end):", "if self.begun:"),),
    ),
    Fault(
        "`[DONE]` without a finish reason",
        (Edit(_ANSWER, "if self.begun and (self._is_counted or trusts_end):", "if False:"),),
    ),
    Fault(
        "A dead upstream, or one that refuses the key",
        (
            Edit(
                "backends/openai/routing/health.py",
                "elif fault.kind is not FaultKind.KEY or not counters.has_answered:",
                "elif False:",
            ),
        ),
    ),
    Fault(
        "An upstream that breaks every answer in the middle",
        (
            Edit(
                "backends/openai/routing/circuit.py",
                "        if self.state is CircuitState.TRIAL:\n            self.state = CircuitState.CLOSED\n",
                "        self.failures = 0\n        if self.state is CircuitState.TRIAL:\n"
                "            self.state = CircuitState.CLOSED\n",
            ),
        ),
    ),
    Fault(
        "One unreadable chunk opens the circuit",
        (
            Edit(
                _FAULTS,
                'MALFORMED = "malformed", CircuitEffect.NOTHING',
                'MALFORMED = "malformed", CircuitEffect.COUNTS',
            ),
        ),
    ),
    Fault(
        "JSON that nests deeply crashes the backend",
        (
            Edit(
                _CHUNK_BODY,
                '    except RecursionError as error:\n        raise BadChunk("a chunk nests',
                '    except ZeroDivisionError as error:\n        raise BadChunk("a chunk nests',
            ),
        ),
        (f"{_CHUNK_TESTS}:test_odd_bytes_hold_the_loop_for_a_short_time",),
    ),
    Fault(
        "JSON that nests deeply crashes the backend",
        (Edit(_CHUNK_BODY, "if len(payload) > _MANY_BYTES and", "if False and"),),
        (f"{_CHUNK_TESTS}:test_odd_bytes_hold_the_loop_for_a_short_time",),
    ),
    Fault(
        "Chunks without content keep a request open for ever",
        (Edit(_ANSWER, "if self._chunks > _CHUNKS + self._max_tokens * _CHUNKS_PER_TOKEN:", "if False:"),),
    ),
    Fault(
        "Reasoning for longer than `first_s`",
        (Edit(_ANSWER, "self._count(len(chunk.reasoning) + sum(", "self._count(sum("),),
    ),
)
