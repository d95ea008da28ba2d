"""What is said on the wire."""

from tests.faults.fault import Edit, Fault

_DETAILS = "tests/integration/gateway/test_wire_details.py"
_HONOUR = "Fields that the server does not honour"
_COMPRESSED = "A compressed body or a byte order mark"
_MISSED = "Load generators, caches and browsers miss"
_LACKS = "A response lacks fields"

FAULTS = (
    Fault(
        _HONOUR,
        (
            Edit(
                "gateway/openai/fields.py",
                "if name in fields and not asks_for_nothing(fields[name], harmless):",
                "if False:",
            ),
        ),
        ("tests/integration/openai/test_refusals.py:test_each_row_of_the_table_is_refused",),
    ),
    Fault(
        _HONOUR,
        (
            Edit(
                "gateway/openai/unserved.py",
                "UNSERVED: Unserved = {\n",
                'UNSERVED: Unserved = {\n    "safety_identifier": ONLY_NULL,\n',
            ),
        ),
        ("tests/integration/openai/test_refusals.py:test_fields_about_the_caller_are_tolerated",),
    ),
    Fault("Unicode's line separators", (Edit("http/line_safe_json.py", "if not data.isascii():", "if False:"),)),
    Fault(
        "An empty last message of the assistant",
        (Edit("gateway/openai/messages.py", "while messages and _is_empty_answer(messages[-1]):", "while False:"),),
    ),
    Fault(
        _COMPRESSED,
        (
            Edit(
                "gateway/body.py", 'if encoding is not None and encoding.lower() not in {"", "identity"}:', "if False:"
            ),
        ),
        (f"{_DETAILS}:test_compressed_body_is_refused_clearly",),
    ),
    Fault(
        _COMPRESSED,
        (Edit("gateway/body.py", "data = data.removeprefix(codecs.BOM_UTF8)", "pass"),),
        (f"{_DETAILS}:test_byte_order_mark_before_the_body_is_ignored",),
    ),
    Fault(
        "Repeated or odd headers break a handshake",
        (
            Edit(
                "http/websocket_stream.py",
                '_REPLACED = {b"sec-websocket-extensions", b"connection", b"upgrade"}',
                '_REPLACED = {b"sec-websocket-extensions"}',
            ),
            Edit(
                "http/websocket_stream.py",
                'headers += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]',
                "pass",
            ),
        ),
    ),
    Fault(
        "A handshake of another version",
        (Edit("http/websocket_stream.py", "[*headers, _VERSION]", "headers"),),
    ),
    Fault(
        "A client that ends its sending side",
        (Edit("http/http1.py", "if not isinstance(self.stream, HttpStream) or self._client_unfinished:", "if True:"),),
    ),
    Fault(
        "An unknown route below `/v1`",
        (Edit("gateway/app.py", 'return OPENAI if path.startswith("/v1/") else NATIVE', "return NATIVE"),),
    ),
    Fault(
        "A proxy cuts a stream that is silent",
        (
            Edit(
                "gateway/openai/render.py",
                "self.keep_alive = _event(self._chunk(None, None))",
                'self.keep_alive = b": keep-alive\\n\\n"',
            ),
        ),
    ),
    Fault(
        _MISSED,
        (Edit("gateway/routes.py", '        path="/health",\n', '        path="/healthy",\n'),),
        (f"{_DETAILS}:test_health_path_of_vllm_is_served",),
    ),
    Fault(
        _MISSED,
        (Edit("http/exchange.py", 'given.setdefault("cache-control", "no-store")', "pass"),),
        (f"{_DETAILS}:test_answers_are_not_to_be_stored_by_caches",),
    ),
    Fault(
        _MISSED,
        (Edit("gateway/native/events.py", 'b"" if has_begun else RETRY', 'b""'),),
        (f"{_DETAILS}:test_native_stream_tells_browsers_when_to_reconnect",),
    ),
    Fault(
        _MISSED,
        (Edit("gateway/openai/models.py", '"created": STARTED_S', '"created": 0'),),
        (f"{_DETAILS}:test_models_have_a_time_of_creation",),
    ),
    Fault(
        "An agent's loop over responses",
        (
            Edit(
                "gateway/openai/responses/references.py",
                'if not isinstance(item, dict) or item.get("type") != "item_reference":',
                "if True:",
            ),
        ),
    ),
    Fault(
        "A keyword of a schema whose value has a wrong type",
        (
            Edit("grammar/json_schema/strings.py", "if not isinstance(pattern, str):", "if False:"),
            Edit(
                "grammar/json_schema/strings.py",
                "if not isinstance(name, str) or name not in PATTERNS:",
                "if name not in PATTERNS:",
            ),
        ),
    ),
    Fault(
        "A string of 1000 to 2000 characters",
        (Edit("grammar/json_schema/builder.py", "if max(least, most or 0) <= MAX_REPETITIONS:", "if True:"),),
    ),
    Fault(
        _LACKS,
        (Edit("gateway/openai/models.py", '        "type": "model",\n', ""),),
        ("tests/integration/openapi/test_schemathesis.py",),
    ),
    Fault(
        _LACKS,
        (Edit("gateway/openai/responses/view.py", '            "completed_at": None,\n', ""),),
        ("tests/integration/openai/test_responses.py:test_response_shows_fields_without_a_value",),
    ),
    Fault(
        _LACKS,
        (
            Edit(
                "gateway/openai/responses/view.py",
                '{"description": None, "parameters": None, "strict": None}',
                "{}",
            ),
        ),
        ("tests/integration/openai/test_responses.py:test_response_shows_all_fields_of_a_tool",),
    ),
    Fault(
        _LACKS,
        (Edit("gateway/anthropic/blocks.py", '        "container": None,\n', ""),),
        ("tests/integration/anthropic/test_messages.py:test_fields_without_a_value_are_null",),
    ),
)
