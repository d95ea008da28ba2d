"""How a connection goes on, from what an earlier gateway left of it."""

import pytest

from llmactors.http.continuation import HEAD_KEY, CannotGoOn, Continuation, LeftBehind, Stage, go_on
from llmactors.http.write_records import BEGUN, CLOSE, COMPLETE, INTERIM, SOCKET, WriteRecord

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def record(generation: int, begin: int, data: bytes, flags: int, *, next_in: int = 0) -> WriteRecord:
    return WriteRecord(generation, begin, next_in, len(data), flags, b"%d" % generation, data)


def found(*records: WriteRecord, written: int, taken: int = len(REQUEST), base_out: int = 0) -> Continuation:
    return go_on(LeftBehind(0, REQUEST, base_out, records, written, taken))


def test_journal_is_served_where_nothing_was_written() -> None:
    how = found(written=0, taken=5)
    assert (how.stage, how.journal, how.rest) == (Stage.NOTHING, REQUEST, b"")
    assert how.untaken == len(REQUEST) - 5


def test_rest_of_a_begun_response_is_written_first() -> None:
    how = found(record(2, 10, b"abcdef", BEGUN), record(1, 0, b"0123456789", BEGUN), written=13)
    assert (how.stage, how.rest, how.reached, how.generation) == (Stage.BEGUN, b"def", b"2", 2)


@pytest.mark.parametrize("written", [10, 16])
def test_newest_record_counts_at_both_of_its_ends(written: int) -> None:
    how = found(record(2, 10, b"abcdef", BEGUN), record(1, 0, b"0123456789", BEGUN), written=written)
    assert (how.rest, how.reached) == (b"abcdef"[written - 10 :], b"2")


def test_stale_record_never_counts() -> None:
    """Everything before the newest record was written when it was made: another position is a mistake."""
    with pytest.raises(CannotGoOn, match="the newest record has those from 10 to 16"):
        found(record(2, 10, b"abcdef", BEGUN), record(1, 0, b"0123456789", BEGUN), written=7)


def test_next_request_follows_a_complete_response() -> None:
    left = LeftBehind(100, REQUEST + b"GET /2", 50, [record(1, 50, b"whole", COMPLETE, next_in=118)], 52, 124)
    how = go_on(left)
    assert (how.stage, how.rest, how.journal, how.journal_at) == (Stage.NOTHING, b"ole", b"GET /2", 118)
    assert (how.base_out, how.untaken) == (55, 0)


def test_record_of_the_response_before_does_not_count() -> None:
    how = found(record(1, 0, b"whole", COMPLETE), written=5, base_out=5)
    assert (how.stage, how.rest, how.journal) == (Stage.NOTHING, b"", REQUEST)
    with pytest.raises(CannotGoOn, match="the record of them is missing"):
        found(record(1, 0, b"whole", COMPLETE), written=7, base_out=5)


def test_interim_response_is_no_part_of_the_response() -> None:
    assert found(record(1, 0, b"100", INTERIM), written=1).stage is Stage.INTERIM


def test_connection_ends_behind_its_last_response() -> None:
    """What the client has sent since does not matter."""
    how = found(record(1, 0, b"bye", COMPLETE | CLOSE), written=1, taken=999)
    assert (how.stage, how.rest, how.journal) == (Stage.ENDS, b"ye", b"")


def test_bytes_that_nobody_journalled_cut_the_connection() -> None:
    with pytest.raises(CannotGoOn, match="the journal ends at"):
        found(written=0, taken=len(REQUEST) + 1)


def test_large_record_needs_its_bytes_only_for_a_rest() -> None:
    large = record(1, 0, b"abcdef", BEGUN)._replace(data=b"")
    assert found(large, written=6).stage is Stage.BEGUN
    with pytest.raises(CannotGoOn, match="missing"):
        found(large, written=5)


def open_socket(flags: int, *, next_in: int, taken: int, head: bool = True) -> Continuation:
    """What is left of a WebSocket: `FRAMES` from the input position 100 on, and a record of 10 bytes from 50 on."""
    newest = WriteRecord(3, 50, next_in, 10, SOCKET | flags, b"reached", b"0123456789")
    return go_on(LeftBehind(100, b"FRAMES", 40, [newest], 54, taken, {HEAD_KEY: b"GET"} if head else {}))


def test_websocket_reads_again_from_the_first_frame_left() -> None:
    how = open_socket(0, next_in=102, taken=105)
    assert (how.stage, how.journal_at, how.journal, how.untaken) == (Stage.SOCKET, 102, b"AMES", 1)
    assert (how.rest, how.reached, how.generation, how.is_websocket) == (b"456789", b"reached", 3, True)


def test_websocket_without_its_head_or_journal_is_cut() -> None:
    with pytest.raises(CannotGoOn, match="the head of its handshake is missing"):
        open_socket(0, next_in=102, taken=105, head=False)
    with pytest.raises(CannotGoOn, match="the journal ends at"):
        open_socket(0, next_in=102, taken=107)


def test_closed_websocket_ends_whatever_the_client_sent_since() -> None:
    how = open_socket(CLOSE, next_in=102, taken=999)
    assert (how.stage, how.journal, how.rest, how.untaken) == (Stage.ENDS, b"AMES", b"456789", 0)
    assert open_socket(CLOSE, next_in=2**64 - 1, taken=999).journal == b""
