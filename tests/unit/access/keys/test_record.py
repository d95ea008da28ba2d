"""The status that a key record gives a secret."""

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.access.keys.record import KeyRecord, KeyStatus, decode_record
from llmactors.access.keys.text import Credential, Digest, NewKey, new_key
from llmactors.errors import ConfigError
from llmactors.limiter.limits import MOST, Limits

KEY, OTHER = new_key(), new_key()
RECORD = KeyRecord(id=KEY.id, tenant="acme", hash=KEY.digest, created=100.0)


def shown(key: NewKey) -> Credential:
    return Credential(key.id, key.digest)


@pytest.mark.parametrize(
    ("changes", "now", "status"),
    [
        ({}, 1e12, KeyStatus.GOOD),
        ({"expires": 200.0}, 199.9, KeyStatus.GOOD),
        ({"expires": 200.0}, 200.0, KeyStatus.EXPIRED),
        ({"revoked": 150.0}, 150.0, KeyStatus.REVOKED),
        ({"revoked": 150.0}, 100.0, KeyStatus.REVOKED),
        ({"revoked": 150.0, "expires": 120.0}, 300.0, KeyStatus.REVOKED),
    ],
)
def test_right_secret_has_the_state_of_its_key(changes: dict[str, Any], now: float, status: KeyStatus) -> None:
    record = attrs.evolve(RECORD, **changes)
    assert record.judge(shown(KEY), now) is status
    assert record.judge(shown(OTHER), now) is KeyStatus.WRONG


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=6), st.floats(0, 1000))
def test_old_secret_is_good_for_its_overlap_only(rotations: list[tuple[float, float]], later_s: float) -> None:
    record, now = RECORD, 100.0
    ends: dict[str, float] = {}
    keys = [KEY]
    for after_s, overlap_s in rotations:
        now += after_s
        ends = {text: min(end, now + overlap_s) for text, end in ends.items()}
        ends[keys[-1].text] = now + overlap_s
        keys.append(new_key(KEY.id))
        record = record.rotate(keys[-1], now, overlap_s)
    now += later_s
    for key in keys[:-1]:
        assert record.judge(shown(key), now) is (KeyStatus.GOOD if now < ends[key.text] else KeyStatus.WRONG)
    assert record.judge(shown(keys[-1]), now) is KeyStatus.GOOD
    assert record.next_end(now) == min((end for end in ends.values() if end > now), default=math.inf)


def test_old_secret_of_a_revoked_key_is_refused() -> None:
    record = RECORD.rotate(new_key(KEY.id), 100.0, 50.0).revoke(110.0)
    assert record.judge(shown(KEY), 120.0) is KeyStatus.REVOKED
    assert record.revoke(500.0) == record


def test_every_secret_of_a_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    record = RECORD
    keys = [KEY]
    for _ in range(3):
        keys.append(new_key(KEY.id))
        record = record.rotate(keys[-1], 100.0, 50.0)
    counts = []
    for key in (*keys, OTHER):
        seen: list[Digest] = []

        def noting(self: Digest, other: object, seen: list[Digest] = seen) -> bool:
            seen.append(self)
            return isinstance(other, Digest) and self.sha256 == other.sha256

        monkeypatch.setattr(Digest, "__eq__", noting)
        record.judge(shown(key), 100.0)
        counts.append(len(seen))
    assert counts == [4] * 5


RECORDS = st.builds(
    KeyRecord,
    id=st.just(KEY.id),
    tenant=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).filter(lambda name: name not in {"key", "anonymous"}),
    hash=st.just(KEY.digest),
    created=st.floats(0, 1e11),
    name=st.text(max_size=64).filter(str.isprintable),
    expires=st.none() | st.floats(0, 1e11),
    revoked=st.none() | st.floats(0, 1e11),
    models=st.none() | st.frozensets(st.text(min_size=1), min_size=1, max_size=3),
    best_priority=st.integers(0, 2),
    weight=st.floats(0.001, 1000.0),
    limits=st.builds(Limits, requests_per_minute=st.none() | st.integers(1, MOST), concurrent=st.none()),
)


@given(RECORDS)
def test_key_record_is_encoded_in_one_way(record: KeyRecord) -> None:
    assert decode_record(record.encode()) == record
    assert decode_record(record.encode()).encode() == record.encode()
    assert KEY.text.encode() not in record.encode()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"tenant": "x" * 65}, "tenant"),
        ({"tenant": "acme\n"}, "tenant"),
        ({"tenant": "anonymous"}, "tenant"),
        ({"tenant": "key"}, "tenant"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"best_priority": 3}, "priority"),
        ({"best_priority": -1}, "priority"),
        ({"weight": 0.0}, "weight"),
        ({"weight": math.inf}, "weight"),
        ({"weight": math.nan}, "weight"),
        ({"weight": 1e-320}, "weight"),
        ({"weight": 1e308}, "weight"),
        ({"models": frozenset()}, "models"),
        ({"models": frozenset({""})}, "models"),
    ],
)
def test_field_out_of_range_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"`{named}`"):
        attrs.evolve(RECORD, **changes)


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", RECORD.encode()[:-1]])
def test_bytes_that_are_no_key_record_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="not the record of a key"):
        decode_record(data)
