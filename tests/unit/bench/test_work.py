"""The peers do the same work as llmactors' mock, and their answers pass the load client's check."""

from hypothesis import given
from hypothesis import strategies as st

from bench.peers.work import Job, Model, Pace, events, token_data, token_text
from llmactors.backends.mock.oracle import mock_token
from llmactors.load.native import _parse


@given(prompt=st.text(min_size=1), seed=st.none() | st.integers(0, 2**31), seq=st.integers(1, 10_000))
def test_peers_make_the_mocks_tokens(prompt: str, seed: int | None, seq: int) -> None:
    job = Job.read({"prompt": prompt, "seed": seed, "max_tokens": 1})
    assert token_text(job.base, seq) == mock_token(prompt, seed, seq).text


def test_the_last_step_brings_the_end() -> None:
    job = Job.read({"prompt": "a", "seed": 1, "max_tokens": 2}, "some-id")
    first, second = (events(job, seq).encode().split(b"\n\n")[:-1] for seq in (1, 2))
    assert [_parse(block)[0] for block in (*first, *second)] == ["token", "token", "done"]
    assert [_parse(block)[1].seq for block in (*first, *second)] == [1, 2, 3]
    assert _parse(second[1])[1].usage == {"completion_tokens": 2}


def test_an_event_that_names_itself_needs_neither_id_nor_name() -> None:
    job = Job.read({"prompt": "a", "seed": 1, "max_tokens": 2})
    name, event = _parse(b"event: message\ndata: " + token_data(job, 1).encode())
    assert (name, event.seq) == ("token", 1)


def test_the_model_string_is_the_mocks() -> None:
    assert Model.parse("mock:step_ms=20,slots=8") == Model(0.02, 8)
    assert Model.parse("mock") == Model(0.0, 64)


def test_steps_keep_their_pace_and_do_not_hurry_after_a_delay() -> None:
    pace = Pace(1.0, 10.0)
    assert pace.wait_s(10.25) == 0.75
    assert pace.wait_s(11.5) == 0.5
    assert pace.wait_s(20.0) == 0.0
    assert pace.wait_s(20.0) == 1.0
