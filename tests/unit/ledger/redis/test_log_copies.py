"""When a gateway reads a log again of which it has a copy."""

from llmactors.ledger.redis.log_copies import LogCopies, is_silent


def test_log_is_read_less_often_after_a_long_silence() -> None:
    copy = LogCopies(lambda: 0.0).open("r")
    reads = []
    for tenth in range(1, 301):
        if is_silent(copy, tenth / 10, 1.0):
            reads.append(tenth / 10)
            copy.updated_at = tenth / 10
    pauses = [round(after - before, 1) for before, after in zip([0.0, *reads], reads, strict=False)]
    assert pauses[:2] == [1.0, 1.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 4.0
    copy.heard_at = copy.updated_at = 30.0
    assert not is_silent(copy, 30.9, 1.0)
    assert is_silent(copy, 31.0, 1.0)
