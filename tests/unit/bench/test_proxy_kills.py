"""What a client has of an answer is compared with the tokens that the answer should have."""

import itertools

import pytest

from bench.proxy_kills import Comparison, Reading, compare, expected_tokens, longest_wait, summary
from bench.scenarios.proxy import added

TOKENS = [" ash01", " bay02", " elm03"]


@pytest.mark.parametrize(
    ("text", "is_done", "comparison"),
    [
        (" ash01 bay02 elm03", True, Comparison(is_complete=True, wrong=0, repeated=0)),
        (" ash01 bay02 elm03", False, Comparison(is_complete=False, wrong=0, repeated=0)),
        (" ash01 ba", False, Comparison(is_complete=False, wrong=0, repeated=0)),
        ("", False, Comparison(is_complete=False, wrong=0, repeated=0)),
        (" ash01 elm03", True, Comparison(is_complete=False, wrong=0, repeated=0)),
        (" ash01 bay02 bay02 elm03", True, Comparison(is_complete=False, wrong=0, repeated=1)),
        (" ash01 oak09 elm03", True, Comparison(is_complete=False, wrong=1, repeated=0)),
        ("I am sorry", True, Comparison(is_complete=False, wrong=1, repeated=0)),
    ],
)
def test_text_is_compared_token_by_token(text: str, is_done: bool, comparison: Comparison) -> None:
    assert compare(text, TOKENS, is_done=is_done) == comparison


def test_last_answer_of_a_client_counts() -> None:
    tokens = expected_tokens("kill 0", 0)
    cut = Reading(tokens[:2], [0.0, 0.1])
    whole = Reading(tokens, [1.0 + number / 10 for number in range(len(tokens))], is_done=True)
    found = summary([[cut, whole]])
    assert (found["complete_share"], found["complete_at_once_share"]) == (1.0, 0.0)
    assert (found["wrong"], found["repeated"]) == (0, 0)
    assert found["longest_gap_s"] == pytest.approx(1.1)


def test_cut_answer_without_an_error_is_a_quiet_cut() -> None:
    tokens = expected_tokens("kill 0", 0)
    quiet, told = (Reading(tokens[:5], [0.0] * 5, ended_quietly=quiet) for quiet in (True, False))
    whole = Reading(tokens, [0.0] * len(tokens), is_done=True, ended_quietly=True)
    assert [summary([[reading]])["quiet_cuts"] for reading in (quiet, told, whole)] == [1, 0, 0]


def test_wait_lasts_until_a_token_is_new_to_the_client() -> None:
    first, second = Reading(["a", "b"], [0.0, 1.0]), Reading(["a", "b", "c"], [2.0, 2.1, 4.0])
    assert longest_wait([first, second]) == 3.0
    assert longest_wait([Reading()]) == 0.0


def test_added_time_is_a_difference_of_medians() -> None:
    through, direct = ([{"ttft_s": {"p50": each}} for each in times] for times in ((3.0, 9.0, 4.0), (1.0, 2.0, 1.5)))
    assert added([through, direct], "ttft_s") == 2.5


def test_answers_differ_between_clients() -> None:
    answers = [expected_tokens(f"kill {number}", number) for number in range(24)]
    assert all(a[0] != b[0] for a, b in itertools.combinations(answers, 2))
