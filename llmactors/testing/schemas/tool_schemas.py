"""The parameters of agents' tools."""

from typing import Any

from llmactors.testing.schemas.objects import closed, text


def _open(required: tuple[str, ...], /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TOOL_SCHEMAS: dict[str, Any] = {
    "get_weather": _open(
        ("location",),
        location=text("The city and state, e.g. San Francisco, CA"),
        unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
    ),
    "strict get_weather": closed(
        location=text("The city"), unit={"type": ["string", "null"], "enum": ["c", "f", None]}
    ),
    "web_search": _open(
        ("query",), query=text("What to look for"), count={"type": "integer", "minimum": 1, "maximum": 20}
    ),
    "read_file": _open(("path",), path=text("The file"), offset={"type": "integer"}, limit={"type": "integer"}),
    "write_file": closed(path=text("The file"), content=text("Its new text")),
    "edit_file": _open(
        ("path", "edits"),
        path=text("The file"),
        edits={"type": "array", "items": closed(old=text("Before"), new=text("After")), "minItems": 1},
        dry_run={"type": "boolean", "default": False},
    ),
    "bash": _open(("command",), command=text("The command"), timeout={"type": "number", "exclusiveMinimum": 0}),
    "grep": _open(
        ("pattern",),
        pattern=text("What to find"),
        path=text("Where"),
        output_mode={"type": "string", "enum": ["content", "files_with_matches", "count"]},
        multiline={"type": "boolean"},
    ),
    "todo_write": closed(
        todos={
            "type": "array",
            "items": closed(
                content={"type": "string", "minLength": 1},
                status={"type": "string", "enum": ["pending", "in_progress", "completed"]},
                priority={"type": "string", "enum": ["high", "medium", "low"]},
            ),
        }
    ),
    "send_email": closed(
        to={"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1},
        subject={"type": "string", "maxLength": 80},
        body={"type": "string"},
    ),
    "calendar_event": closed(
        title={"type": "string"},
        start={"type": "string", "format": "date-time"},
        end={"type": "string", "format": "date-time"},
        attendees={"type": "array", "items": {"type": "string"}},
    ),
    "sql_query": closed(
        query={"type": "string"}, parameters={"type": "array", "items": {"type": ["string", "number", "null"]}}
    ),
    "http_request": _open(
        ("method", "url"),
        method={"enum": ["GET", "POST", "PUT", "DELETE"]},
        url={"type": "string", "format": "uri"},
        headers={"type": "object", "additionalProperties": {"type": "string"}},
        body={},
    ),
    "calculator": closed(a={"type": "number"}, b={"type": "number"}, operation={"enum": ["add", "sub", "mul", "div"]}),
    "no parameters": {"type": "object", "properties": {}},
    "strict no parameters": closed(),
    "handoff": closed(agent={"enum": ["billing", "support", "sales"]}, reason={"type": "string"}),
    "click": closed(
        x={"type": "integer", "minimum": 0, "maximum": 1919}, y={"type": "integer", "minimum": 0, "maximum": 1079}
    ),
    "browser": {
        "anyOf": [
            closed(action={"const": "goto"}, url={"type": "string"}),
            closed(action={"const": "click"}, selector={"type": "string"}),
            closed(action={"const": "type"}, selector={"type": "string"}, text={"type": "string"}),
            closed(action={"const": "done"}),
        ]
    },
    "memory_update": closed(
        facts={"type": "array", "items": closed(id={"type": "string", "format": "uuid"}, text={"type": "string"})}
    ),
    "plan": closed(
        goal={"type": "string"},
        steps={
            "type": "array",
            "items": closed(
                tool={"enum": ["search", "read", "write"]},
                arguments={"type": "object"},
                depends_on={"type": "array", "items": {"type": "integer", "minimum": 0}},
            ),
        },
    ),
    "any arguments": {"type": "object", "additionalProperties": True},
}
