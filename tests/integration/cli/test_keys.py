"""`keys` as an operator meets it: output, stored keys, and mistakes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from llmactors.access.keys.file import read_keys
from llmactors.access.keys.record import KeyStatus
from llmactors.access.keys.text import read_key
from llmactors.cli import run
from llmactors.limiter.limits import Budget, Limits

pytestmark = pytest.mark.integration


@attrs.frozen
class Answer:
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


Keys = Callable[..., Answer]


@pytest.fixture
def keys(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Runs `llmactors keys …` in this process, because a new process for each command takes seconds."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("LLMACTORS_KEYS", "LLMACTORS_REDIS"):
        monkeypatch.delenv(name, raising=False)

    def types(*arguments: str) -> Answer:
        code = run(["keys", *arguments])
        return Answer(code, *capfd.readouterr())

    return types


def test_name_of_a_tenant_is_answered_with_its_keys(keys: Keys, tmp_path: Path) -> None:
    where = ("--keys", str(tmp_path / "keys.json"))
    for tenant in ("acme", "other"):
        keys("create", "--tenant", tenant, *where)
    acme, _ = read_keys(tmp_path / "keys.json")
    answer = keys("update", "acme", "--concurrent", "4", *where)
    assert answer.returncode == 1
    assert f"'acme' is a tenant, whose keys are {acme.id}; name one of these" in answer.stderr


def test_key_is_created_rotated_and_revoked(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    where = ("--keys", str(path))
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "9000", "--tokens-per-day", "100000")
    rights = ("--models", "a", "--models", "b", "--priority", "2", "--weight", "2.5", "--concurrent", "4")
    created = keys("create", "--tenant", "acme", "--name", "ci", "--expires", "30d", *limits, *rights, *where)
    assert created.returncode == 0
    key = read_key(created.stdout.removesuffix("\n").encode())  # the key alone, on one line
    assert key is not None
    assert created.stdout.strip() not in created.stderr
    (record,) = read_keys(path)
    assert record.judge(key, record.created) is KeyStatus.GOOD
    assert record.expires == pytest.approx(record.created + 30 * 86_400, abs=10)
    assert (record.models, record.best_priority, record.weight) == (frozenset("ab"), 2, 2.5)
    assert record.limits == Limits(requests_per_minute=60, tokens_per_minute=9000, tokens_per_day=100_000, concurrent=4)

    changes = ("--requests-per-minute", "6", "--concurrent", "none", "--budget", "10/day", "--key-budget", "99.5/month")
    updated = keys("update", key.key_id, *changes, *where)
    assert updated.returncode == 0, updated.stderr
    assert "6 requests/min, 9000 tokens/min, 100000 tokens/day, 10.00/day, 99.50/month for the key" in updated.stdout
    keys("update", key.key_id, "--budget", "none", *where)
    (record,) = read_keys(path)
    budget = Budget(99_500_000_000, "month", "key")
    assert record.limits == Limits(
        requests_per_minute=6, tokens_per_minute=9000, tokens_per_day=100_000, budgets=(budget,)
    )

    # By a variable in place of the flag, and the key itself in place of its id.
    with monkeypatch.context() as variables:
        variables.setenv("LLMACTORS_KEYS", str(path))
        rotated = keys("rotate", created.stdout.strip())
    fresh = read_key(rotated.stdout.removesuffix("\n").encode())
    assert fresh is not None
    assert fresh.key_id == key.key_id
    (record,) = read_keys(path)
    now = record.former[0].until - 1800
    assert [record.judge(each, now) for each in (key, fresh)] == [KeyStatus.GOOD, KeyStatus.GOOD]
    assert [record.judge(each, now + 3600) for each in (key, fresh)] == [KeyStatus.WRONG, KeyStatus.GOOD]

    shown = keys("list", *where).stdout
    for text in (
        key.key_id,
        "acme",
        "ci",
        "active until",
        "1 old secret",
        "a, b",
        "2.5",
        "6 requests/min",
    ):
        assert text in shown
    assert keys(*where).stdout == shown  # the default command
    [told] = json.loads(keys("list", "--json", *where).stdout)["keys"]
    assert (told["id"], told["state"], told["models"], told["class"]) == (key.key_id, "active", ["a", "b"], 2)
    assert told["limits"]["requests_per_minute"] == 6
    assert "hash" not in told

    assert keys("revoke", key.key_id, *where).stdout == f"key {key.key_id} of tenant acme is revoked\n"
    assert keys("revoke", key.key_id, *where).returncode == 0
    assert "revoked" in keys("list", *where).stdout
    refused = keys("rotate", key.key_id, *where)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is revoked" in refused.stderr
    for secret in (created.stdout, rotated.stdout):
        assert secret.split("_")[2] not in path.read_text() + shown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["list"], 2, "say where the keys are"),
        (["list", "--keys", "redis"], 2, "say where the keys are"),
        (["list", "--keys", "none.json"], 1, "there is no key file none.json"),
        (["list", "--keys", "none.json", "--redis", "redis://127.0.0.1:1"], 2, "not both"),
        (["list", "--redis", "redis://127.0.0.1:1"], 1, "127.0.0.1:1"),
        (["create", "--keys", "k.json"], 2, "--tenant"),
        (["create", "--keys", "k.json", "--tenant", "a b"], 2, "`tenant` must be"),
        (["create", "--keys", "k.json", "--tenant", "key"], 2, "`tenant` 'key'"),
        (["create", "--keys", "k.json", "--tenant", "a", "--expires", "soon"], 2, "`expires` must be"),
        (["create", "--keys", "k.json", "--tenant", "a", "--expires", "0s"], 2, "`expires` must be above 0"),
        (["create", "--keys", "k.json", "--tenant", "a", "--priority", "3"], 2, "`priority` must be"),
        (["create", "--keys", "k.json", "--tenant", "a", "--weight", "0"], 2, "`weight` must be"),
        (["create", "--keys", "k.json", "--tenant", "a", "--concurrent", "0"], 2, "concurrent is 0"),
        (["create", "--keys", "no/such/k.json", "--tenant", "a"], 1, "No such file or directory"),
        (["revoke", "nobody", "--keys", "empty.json"], 1, "there is no key 'nobody'"),
        (["revoke", "lla_notquitea_key", "--keys", "empty.json"], 2, "neither a key nor the id"),
        (["rotate", "nobody", "--keys", "empty.json", "--overlap", "1"], 2, "`overlap` must be"),
        (["list", "--keys", "broken.json"], 1, "broken.json is not a key file"),
        (["list", "--keys", "wrong.json"], 1, "wrong.json is not a key file: `tenant` 'key'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_error_is_one_line_with_its_exit_code(
    keys: Keys, arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.json").write_text('{"version": 1, "keys": []}')
    (tmp_path / "broken.json").write_text('{"version": 1, "keys": [')
    wrong = '{"id": "i", "tenant": "key", "hash": {"sha256": "h"}, "created": 1}'
    (tmp_path / "wrong.json").write_text(f'{{"version": 1, "keys": [{wrong}]}}')
    monkeypatch.chdir(tmp_path)
    answer = keys(*arguments)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert says in answer.stderr
    assert answer.stderr.startswith("llmactors: ")
    assert answer.stderr.count("\n") == 1


def test_standard_output_is_the_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = subprocess.run(
        [sys.executable, "-m", "llmactors", "keys", "create", "--tenant", "acme", "--keys", str(path)],
        capture_output=True,
        timeout=50,
        check=True,
    )
    assert read_key(made.stdout.strip()) is not None
    assert made.stdout.strip() not in made.stderr


@pytest.mark.parametrize(("where", "code", "says"), [("none", 1, "there is no key file"), ("redis", 2, "`keys`")])
def test_node_does_not_start_without_its_key_file(where: str, code: int, says: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llmactors", "--model", "mock", "--bind", "127.0.0.1:0", "--keys", where]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    assert says in result.stderr
