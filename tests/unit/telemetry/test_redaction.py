"""Nothing that a client wrote is in a log line, wherever in the values it hides."""

import enum
import json
import pathlib

import attrs
from hypothesis import given
from hypothesis import strategies as st

from llmactors import errors
from llmactors.messages import GenerateRequest
from llmactors.telemetry.redaction import FORBIDDEN, redact, redacted

SECRET = "s3cr3t"


class Opaque:
    def __repr__(self) -> str:
        return f"Opaque({SECRET})"


@attrs.frozen
class Holder:
    request: GenerateRequest
    size: int = 3


REQUEST = GenerateRequest(id="r", model="mock", prompt=SECRET)

HIDING_PLACES = st.recursive(
    st.sampled_from([{name: SECRET} for name in sorted(FORBIDDEN)] + [{"Prompt": SECRET}, {"API_KEY": SECRET}])
    | st.sampled_from([REQUEST, Holder(REQUEST), Opaque(), SECRET.encode(), {"n": 1}, {"x"}, 1, None]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "text", "messages"]), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "body", "Authorization"]), HIDING_PLACES))
def test_a_forbidden_value_is_found_at_any_depth(event: dict[str, object]) -> None:
    line = redact(None, "info", {"event": "something happened", **event})
    assert SECRET not in repr(line)
    assert SECRET not in json.dumps(line)
    assert line["event"] == "something happened"


def test_plain_values_stay_as_they_are() -> None:
    class Colour(enum.Enum):
        RED = 1

    values = {"event": "e", "n": 1, "x": 0.5, "ok": True, "none": None, "path": pathlib.Path("/a"), "c": Colour.RED}
    assert redact(None, "info", dict(values)) == values


def test_what_is_known_is_taken_apart_and_what_is_not_is_named() -> None:
    assert redacted(Holder(REQUEST))["size"] == 3
    assert redacted(Holder(REQUEST))["request"]["id"] == "r"
    assert redacted([b"raw", Opaque(), Opaque]) == ["<bytes>", "<Opaque>", "<type>"]
    assert redacted(errors.NotFound("no such stream")) == "NotFound: no such stream"


def test_what_holds_itself_ends() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert "<list>" in repr(redacted(endless))
