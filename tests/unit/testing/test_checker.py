"""The checker judges hand-made histories: a clean one passes, and each kind of fault is reported as its kind."""

from collections.abc import Callable

import pytest

from llmactors.testing.checker import CheckReport, check, gaps_at, mock_answer, percentiles
from llmactors.testing.history import EndSeen, History, RequestHistory

TOKENS = 6


def request(number: int = 1) -> RequestHistory:
    """A complete and right request, with a token every 0.1 s from second 1 on."""
    made = RequestHistory(f"prompt {number}", number, TOKENS, 0.0, id=f"r{number}", accepted_at=0.5, connections=1)
    for seq, text in enumerate(mock_answer(made), 1):
        made.add_token(seq, text, 0.9 + seq / 10)
    made.add_end(EndSeen("done", TOKENS + 1, 1.6, completion_tokens=TOKENS))
    return made


def judge(*requests: RequestHistory) -> CheckReport:
    return check(History(list(requests)))


def test_clean_history_passes() -> None:
    report = judge(request(1), request(2))
    assert report.broken == {}
    assert (report.accepted, report.ended_once, report.finished) == (2, 2, 2)
    assert (report.tokens, report.gaps, report.reconnects) == (2 * TOKENS, [], 0)
    assert report.first_token_s == pytest.approx([0.5, 0.5])


def without_end(made: RequestHistory) -> None:
    made.ends.clear()


def without_anything(made: RequestHistory) -> None:
    made.ends.clear()
    made.tokens.clear()


def without_a_token_in_the_middle(made: RequestHistory) -> None:
    del made.tokens[2]


def without_a_hole_and_the_end(made: RequestHistory) -> None:
    del made.tokens[2], made.ends[0]


def without_the_last_token(made: RequestHistory) -> None:
    del made.tokens[-1]


def short_and_sure_of_it(made: RequestHistory) -> None:
    del made.tokens[-1]
    made.ends = [EndSeen("done", TOKENS, 1.6, completion_tokens=TOKENS - 1)]


def with_a_repeat(made: RequestHistory) -> None:
    made.tokens.insert(3, made.tokens[2])


def with_another_text_again(made: RequestHistory) -> None:
    made.tokens.insert(3, made.tokens[2]._replace(text=" other"))


def out_of_order(made: RequestHistory) -> None:
    made.tokens[2], made.tokens[3] = made.tokens[3], made.tokens[2]


def with_a_wrong_text(made: RequestHistory) -> None:
    made.tokens[2] = made.tokens[2]._replace(text=" other")


def with_another_requests_tokens(made: RequestHistory) -> None:
    made.tokens = request(7).tokens


def too_long(made: RequestHistory) -> None:
    made.ends.clear()
    made.add_token(TOKENS + 1, " more", 1.6)
    made.ends = [EndSeen("done", TOKENS + 2, 1.7, completion_tokens=TOKENS + 1)]


def counted_from_zero(made: RequestHistory) -> None:
    made.tokens = [token._replace(seq=token.seq - 1) for token in made.tokens]


def with_two_ends(made: RequestHistory) -> None:
    made.add_end(made.ends[0])


def with_an_end_of_each_kind(made: RequestHistory) -> None:
    made.add_end(EndSeen("error", TOKENS + 2, 1.7, "INTERRUPTED"))


def with_an_end_too_far(made: RequestHistory) -> None:
    made.ends = [EndSeen("done", TOKENS + 2, 1.6, completion_tokens=TOKENS)]


def with_a_wrong_usage(made: RequestHistory) -> None:
    made.ends = [EndSeen("done", TOKENS + 1, 1.6, completion_tokens=TOKENS + 1)]


def with_an_unknown_event(made: RequestHistory) -> None:
    made.ends = [EndSeen("message", TOKENS + 1, 1.6)]


def with_a_token_after_the_end(made: RequestHistory) -> None:
    made.add_token(1, made.tokens[0].text, 1.7)


def with_an_event_of_another(made: RequestHistory) -> None:
    made.foreign += 1


def read_otherwise_later(made: RequestHistory) -> None:
    made.replay = request()
    del made.replay.tokens[-1]


def ended_otherwise_later(made: RequestHistory) -> None:
    made.replay = request()
    made.replay.ends = [EndSeen("error", TOKENS + 1, 1.6, "INTERRUPTED")]


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        (without_end, {"lost_requests": 1}),
        (without_anything, {"lost_requests": 1}),
        (without_a_token_in_the_middle, {"lost": 1, "wrong_ends": 1}),
        (without_a_hole_and_the_end, {"lost_requests": 1, "lost": 1}),
        (without_the_last_token, {"lost": 1, "wrong_ends": 1}),
        (short_and_sure_of_it, {"lost": 1}),
        (with_a_repeat, {"repeated": 1}),
        (with_another_text_again, {"repeated": 1, "wrong": 1}),
        (out_of_order, {"disordered": 1}),
        (with_a_wrong_text, {"wrong": 1, "wrong_ends": 1}),
        (with_another_requests_tokens, {"wrong": TOKENS, "wrong_ends": 1}),
        (too_long, {"wrong": 1, "wrong_ends": 1}),
        (counted_from_zero, {"lost": 1, "wrong": TOKENS, "wrong_ends": 1}),
        (with_two_ends, {"second_ends": 1}),
        (with_an_end_of_each_kind, {"second_ends": 1}),
        (with_an_end_too_far, {"wrong_ends": 1}),
        (with_a_wrong_usage, {"wrong_ends": 1}),
        (with_an_unknown_event, {"wrong_ends": 1}),
        (with_a_token_after_the_end, {"repeated": 1, "after_end": 1}),
        (with_an_event_of_another, {"foreign": 1}),
        (read_otherwise_later, {"replays_differ": 1}),
        (ended_otherwise_later, {"replays_differ": 1}),
    ],
)
def test_each_kind_of_fault_is_reported(spoil: Callable[[RequestHistory], None], broken: dict[str, int]) -> None:
    spoiled = request(1)
    spoil(spoiled)
    report = judge(request(2), spoiled)
    assert report.broken == broken
    assert all("r1" in example for example in report.examples)
    assert "BROKEN" in str(report)


def test_loss_of_the_store_is_a_failure_with_a_reason() -> None:
    """Only where the test says that the store loses what it has, and only if no token is another one."""
    unknown, shorter, mixed = request(1), request(2), request(3)
    without_end(unknown)
    unknown.gone = 404
    for number, made in ((2, shorter), (3, mixed)):
        made.replay = request(number)
        made.replay.ends = [EndSeen("error", TOKENS, 1.6, "INTERRUPTED")]
        del made.replay.tokens[-1]
        if made is mixed:
            made.replay.tokens[0] = made.replay.tokens[0]._replace(text="another")
    history = History(requests=[unknown, shorter, mixed])
    report = check(history, forgets=True)
    assert report.broken == {"replays_differ": 1}
    assert report.failures == {"NOT_FOUND": 1, "INTERRUPTED": 1}
    assert check(history).broken == {"lost_requests": 1, "replays_differ": 2}


def test_request_id_used_twice_is_reported() -> None:
    twin = request(2)
    twin.id = "r1"
    assert judge(request(1), twin).broken == {"foreign": 2}


def test_example_of_a_lost_request_shows_the_last_status() -> None:
    lost = request()
    without_end(lost)
    lost.gone = 404
    assert "answered 404" in judge(lost).examples[0]


def test_explicit_error_is_counted_and_is_no_loss() -> None:
    failed = request()
    failed.tokens = failed.tokens[:2]
    failed.ends = [EndSeen("error", 3, 1.6, "POISONED")]
    report = judge(failed)
    assert report.broken == {}
    assert report.failures == {"POISONED": 1}
    assert (report.finished, report.ended_once, report.tokens) == (0, 1, 2)


def test_tokens_before_an_explicit_error_count_as_lost() -> None:
    failed = request()
    failed.tokens = failed.tokens[:2]
    failed.ends = [EndSeen("error", 5, 1.6, "POISONED")]
    assert judge(failed).broken == {"lost": 2}


def test_shape_is_checked_without_an_oracle() -> None:
    short = request(1)
    del short.tokens[2]
    assert check(History([request(2), short]), lambda request: None).broken == {"lost": 1}


class Keys:
    def __init__(self, *left: str) -> None:
        self._left = left

    def keys_left(self) -> list[str]:
        return list(self._left)


def test_leftover_redis_keys_are_reported() -> None:
    report = check(History([request()]), observer=Keys("log:r1"))
    assert report.broken == {"keys_left": 1}
    assert check(History([request()]), observer=Keys()).broken == {}


def test_gaps_above_the_threshold_are_listed() -> None:
    paused = request()
    paused.tokens[3:] = [token._replace(at=token.at + 2) for token in paused.tokens[3:]]
    paused.ends = [EndSeen("done", TOKENS + 1, 3.6, completion_tokens=TOKENS)]
    report = judge(paused, request(2))
    assert [(gap.request_id, gap.after_seq) for gap in report.gaps] == [("r1", 3)]
    assert report.gaps[0].seconds == pytest.approx(2.1)
    assert paused.biggest_gap() == report.gaps[0]
    assert gaps_at(report.gaps, [2.0]) == report.gaps
    assert gaps_at(report.gaps, [0.5, 5.0]) == []
    assert "all gaps p50 2.10 s p99 2.10 s max 2.10 s of 1" in str(report)
    assert "takeover" not in str(report)
    told = check(History([paused]), takeovers_at=[2.0])
    assert told.takeover_gaps == report.gaps
    assert "wrong 0 · takeover gap p50 2.10 s" in str(told)


def test_gaps_lie_between_first_token_and_first_end() -> None:
    only_end = RequestHistory("p", 1, 6, 0.0, id="r1", accepted_at=0.0)
    only_end.add_end(EndSeen("error", 1, 9.0, "UNAVAILABLE"))
    assert only_end.gaps() == []
    late = request()
    late.add_end(EndSeen("done", 8, 99.0))
    assert max(gap.ended for gap in late.gaps()) == pytest.approx(1.6)


def test_percentiles_are_exact() -> None:
    assert percentiles([]) == {}
    assert percentiles(range(1, 101)) == {"p50": 50, "p99": 99, "max": 100}


def test_report_prints_as_one_block() -> None:
    text = str(check(History([request()]), strikes={"workers killed": 41, "redis killed": 5}))
    assert text.startswith(
        "faults: 41 workers killed, 5 redis killed · requests 1 accepted, 1 ended once · tokens 6 · lost requests 0"
        " · lost 0 · repeated 0 · wrong 0"
    )
