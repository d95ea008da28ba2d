"""The peers do the same work as the simulated backend of llmactors, and their answers pass the load client's check."""

from hypothesis import given
from hypothesis import strategies as st

from bench.peers.work import Job, Model, StepSchedule, events, token_data, token_text
from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.http.sse_reader import SseReader
from llmactors.load.native import _parse


@given(prompt=st.text(min_size=1), seed=st.none() | st.integers(0, 2**31), seq=st.integers(1, 10_000))
def test_peers_make_the_tokens_of_the_simulated_backend(prompt: str, seed: int | None, seq: int) -> None:
    job = Job.read({"prompt": prompt, "seed": seed, "max_tokens": 1})
    assert token_text(job.base, seq) == token_of(sequence_hash(prompt, seed), seq).text


def test_last_step_adds_the_end_of_the_answer() -> None:
    job = Job.read({"prompt": "a", "seed": 1, "max_tokens": 2}, "some-id")
    parsed = [_parse(event) for seq in (1, 2) for event in SseReader().feed(events(job, seq).encode())]
    assert [(name, event.seq) for name, event in parsed] == [("token", 1), ("token", 2), ("done", 3)]
    assert parsed[-1][1].usage == {"completion_tokens": 2}


def test_event_in_the_payload_needs_no_id_and_no_name() -> None:
    job = Job.read({"prompt": "a", "seed": 1, "max_tokens": 2})
    [sent] = SseReader().feed(b"event: message\ndata: " + token_data(job, 1).encode() + b"\n\n")
    name, event = _parse(sent)
    assert (name, event.seq) == ("token", 1)


def test_model_string_is_that_of_the_simulated_backend() -> None:
    assert Model.parse("mock:step_ms=20,slots=8") == Model(0.02, 8)
    assert Model.parse("mock") == Model(0.0, 64)


def test_late_step_delays_the_steps_after_it() -> None:
    schedule = StepSchedule(1.0, 10.0)
    assert schedule.wait_s(10.25) == 0.75
    assert schedule.wait_s(11.5) == 0.5
    assert schedule.wait_s(20.0) == 0.0
    assert schedule.wait_s(20.0) == 1.0
