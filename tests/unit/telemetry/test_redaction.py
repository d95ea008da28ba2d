"""No log line contains what a client wrote, at any depth of the logged values."""

import enum
import json
import pathlib

import attrs
from hypothesis import given
from hypothesis import strategies as st

from llmactors import errors
from llmactors.messages import GenerateRequest
from llmactors.telemetry.redaction import FORBIDDEN, redact, redacted, scrub

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
def test_forbidden_value_is_dropped_at_any_depth(event: dict[str, object]) -> None:
    line = redact(None, "info", {"event": "something happened", **event})
    assert SECRET not in repr(line)
    assert SECRET not in json.dumps(line)
    assert line["event"] == "something happened"


def test_plain_values_are_kept() -> None:
    class Colour(enum.Enum):
        RED = 1

    values = {"event": "e", "n": 1, "x": 0.5, "ok": True, "none": None, "path": pathlib.Path("/a"), "c": Colour.RED}
    assert redact(None, "info", dict(values)) == values


def test_unknown_objects_are_shown_by_their_type_alone() -> None:
    assert redacted(Holder(REQUEST))["size"] == 3
    assert redacted(Holder(REQUEST))["request"]["id"] == "r"
    assert redacted([b"raw", Opaque(), Opaque]) == ["<bytes>", "<Opaque>", "<type>"]
    assert redacted(errors.NotFound("no such stream")) == "NotFound: no such stream"


def test_value_that_contains_itself_is_cut_off() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert "<list>" in repr(redacted(endless))


KEY = "lla_DJZ4o9IqnTbs_hs6opk5uNWgjgBlLDNeb7BNmi2YhD70VVrRpwNp4hc5_4baUEr"
TICKET = "llt_x10tQGF0aYvHJCVUgIkz7HW6hONP9569BA7gQko7f9E"


@given(st.sampled_from([KEY, KEY[:40], TICKET, f"/v1/ws?ticket={TICKET}&x=1"]), st.text(), st.text())
def test_keys_and_tickets_are_cut_out_of_any_line(secret: str, before: str, after: str) -> None:
    line = scrub(json.dumps({"event": f"{before} {secret} {after}", "n": 1}, ensure_ascii=False))
    assert KEY[20:40] not in line
    assert TICKET[10:30] not in line
    assert json.loads(line)["n"] == 1


def test_id_of_a_key_and_other_text_are_kept() -> None:
    assert scrub(f"key {KEY}.") == "key lla_DJZ4o9IqnTbs_…."
    assert scrub("GET /v1/ws?ticket=somethingelse HTTP/1.1") == "GET /v1/ws?ticket=… HTTP/1.1"
    assert scrub("authorization: Bearer s3cret-of-mine, x") == "authorization: Bearer …, x"
    for plain in ("req_e88ffc50183425b3c1b989818063e22d", "a bearer of news", "lla_", "llama_cpp_thing", "hello"):
        assert scrub(plain) == plain
