"""llama.cpp's settings: a rule that nobody asked for is not sent, and a continuation has a seed of its own."""

from typing import Any

import attrs

from llmactors.backends.llama.sampling import HONOURED, sampling_of
from llmactors.messages import OPTIONAL_FIELDS, GenerateRequest

PLAIN = GenerateRequest("r", "m", "p", seed=5)


def sampled(position: int = 0, **fields: Any) -> dict[str, Any]:
    return sampling_of(attrs.evolve(PLAIN, **fields), position=position)


def test_plain_request_has_no_optional_rules() -> None:
    assert sampled() == {"samplers": ["temperature", "top_p"], "temperature": 0.7, "top_p": 1.0, "seed": 5}


def test_rules_are_sent_with_their_samplers() -> None:
    found = sampled(top_k=40, min_p=0.1, repeat_penalty=1.2)
    assert found["samplers"] == ["penalties", "temperature", "min_p", "top_k", "top_p"]
    assert (found["top_k"], found["min_p"], found["repeat_penalty"]) == (40, 0.1, 1.2)


def test_greedy_answer_takes_the_most_probable_token() -> None:
    found = sampled(temperature=0, top_k=40, min_p=0.1, repeat_penalty=1.2)
    assert (found["samplers"], found["top_k"]) == (["penalties", "top_k"], 1)
    assert "min_p" not in found


def test_end_is_ignored_up_to_the_least_length() -> None:
    assert sampled(position=2, min_tokens=3)["ignore_eos"] is True
    assert "ignore_eos" not in sampled(position=3, min_tokens=3)


def test_continuation_draws_with_a_seed_of_its_own() -> None:
    assert sampled(position=3)["seed"] != sampled()["seed"]
    assert sampled(position=3) == sampled(position=3)
    assert sampled(seed=None)["seed"] == sampled(position=3, seed=None)["seed"]


def test_every_honoured_field_is_an_optional_one() -> None:
    assert set(OPTIONAL_FIELDS) >= HONOURED
