"""Names in Redis: one file builds them, and they do not change, so that stored data is found again."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmactors
from llmactors.redislink import names
from llmactors.redislink.names import LedgerKey, RedisNames, lua_key_functions
from tests.support.ledger_keys import ledger_key_of

PACKAGE = Path(llmactors.__file__).parent
TESTS = Path(__file__).parents[2]
MAIN = RedisNames("main")


def _sources(*suffixes: str) -> Iterator[Path]:
    own = {Path(names.__file__), Path(__file__)}
    for root in (PACKAGE, TESTS):
        yield from (path for suffix in suffixes for path in root.rglob(f"*{suffix}") if path not in own)


def test_no_other_file_begins_a_key() -> None:
    begins = re.compile(r"llmactors:\{")
    assert [path for path in _sources(".py", ".lua") if begins.search(path.read_text("utf-8"))] == []


def test_lua_files_build_no_key() -> None:
    # A name of one letter, as in `'l:' .. worker`, is a field of a hash.
    builds = re.compile(r"c\.prefix|'[a-z_]{2,}:' \.\.")
    assert [path for path in _sources(".lua") if builds.search(path.read_text("utf-8"))] == []


def test_lua_files_use_only_keys_that_exist() -> None:
    known = {key.value.name for key in LedgerKey}
    used = {name for path in _sources(".lua") for name in re.findall(r"\bkey\.([a-z_]+)", path.read_text("utf-8"))}
    assert used
    assert used <= known


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (MAIN.nodes, "llmactors:{main}:nodes"),
        (MAIN.node("w1"), "llmactors:{main}:node:w1"),
        (MAIN.cordon("w1"), "llmactors:{main}:cordon:w1"),
        (MAIN.api_keys, "llmactors:{main}:keys"),
        (MAIN.api_keys_changed, "llmactors:{main}:keys:changed"),
        (MAIN.ticket("d1"), "llmactors:{main}:ticket:d1"),
        (MAIN.stream_ticket("d1"), "llmactors:{main}:ticket:d1:stream"),
        (MAIN.ledger_prefix, "llmactors:{main}:v4:"),
        (MAIN.ledger(LedgerKey.WORKERS), "llmactors:{main}:v4:workers"),
        (MAIN.ledger(LedgerKey.LOG, "*"), "llmactors:{main}:v4:log:*"),
        (MAIN.ledger(LedgerKey.WAITING, 1, 3, "a:b", "t"), "llmactors:{main}:v4:waiting:1:3:a:b:t"),
    ],
)
def test_names_of_stored_data_do_not_change(found: str, expected: str) -> None:
    assert found == expected


def test_kind_of_a_ledger_key_is_found_by_its_name() -> None:
    for key in LedgerKey:
        name = MAIN.ledger(key, *("x:y" for _ in key.value.parts))
        assert ledger_key_of(MAIN, name.encode()) is key
        assert ledger_key_of(RedisNames("other"), name.encode()) is None
    assert ledger_key_of(MAIN, MAIN.node("w1").encode()) is None


def test_key_with_missing_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="log needs the parts"):
        MAIN.ledger(LedgerKey.LOG)


def test_lua_and_python_build_the_same_keys() -> None:
    text = lua_key_functions()
    assert "function key.workers(c) return c.prefix .. 'workers' end" in text
    assert "function key.log(c, id) return c.prefix .. 'log:' .. id end" in text
