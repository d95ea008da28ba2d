"""`config show`, `config check` and the flags of settings, as an operator meets them."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from llmactors.cli import run
from llmactors.config import SETTINGS, Settings
from tests.integration.cli.test_cli import llmactors

pytestmark = pytest.mark.integration

Types = Callable[..., tuple[int, str, str]]


@pytest.fixture
def types(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Types:
    """Runs `llmactors …` in this process; gives the exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        return (run([*arguments]), *capfd.readouterr())

    return call


def test_show_prints_every_setting_and_its_source(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('slots = 2\ndrain_s = 1\nredis = "redis://u:s3cr3t@h:1"\n')
    arguments = ("config", "show", "--config", str(file), "--drain-s", "3", "--model", "a b", "--model", "c")
    result = llmactors(*arguments, LLMACTORS_RATE_LIMIT="5/s", GATEWAY_API_KEY="s3cr3t")
    assert (result.returncode, result.stderr) == (0, "")
    assert "s3cr3t" not in result.stdout
    for line in (
        f"slots = 2  # {file}",
        "drain_s = 3.0  # --drain-s",
        'model = ["a b", "c"]  # --model',
        'rate_limit = "5/s"  # LLMACTORS_RATE_LIMIT',
        'api_key = "***"  # GATEWAY_API_KEY',
        f'redis = "redis://u:***@h:1"  # {file}',
        "lease_s = 1.5  # default",
        "# name is not set  # default",
    ):
        assert line in result.stdout.splitlines()


def test_shown_configuration_is_one_that_can_be_used(types: Types, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    code, shown, _ = types("config", "show", "--slots", "3", "--access-log", "--allowed-origins", "*")
    file.write_text(shown)
    assert code == 0
    assert types("config", "check", str(file))[0] == 0
    again = json.loads(types("config", "show", "--json", "--config", str(file))[1])
    settings = Settings(slots=3, access_log=True, allowed_origins=("*",))
    values = json.loads(json.dumps(attrs.asdict(settings)))
    assert {name: each["value"] for name, each in again.items()} == values | {"keeper": False}  # tests have none


def test_show_without_its_name_is_the_default(types: Types) -> None:
    assert types("config", "--slots", "3") == types("config", "show", "--slots", "3")


def test_check_accepts_a_good_file(types: Types, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('model = "mock:slots=3"\nslots = 4\n')
    said = f"{file} is good: 2 of {len(SETTINGS)} settings have a value there\n"
    assert types("config", "check", str(file)) == (0, said, "")


def test_check_names_every_problem(types: Types, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('slot = 4\ndrain_s = "long"\nrate_limit = "5"\nfrobnicate = 1\nmodel = "mock"\n')
    code, out, err = types("config", "check", str(file))
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[:3] == [
        f"llmactors: {file}: there is no setting `slot`; did you mean slots?",
        f"llmactors: {file}: `drain_s` must be a number of seconds from 0 to 1000000000, not 'long'",
        f"llmactors: {file}: `rate_limit` must be COUNT/PERIOD, as in 60/min, 5/s, 1000/h or 100/10s, not '5'",
    ]
    assert lines[3].startswith(f"llmactors: {file}: there is no setting `frobnicate`; there are: access_log, ")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slots =", "is not valid TOML"),
        ('model = "mock:speed=9"', "there is no 'speed'"),
        ('model = ["mock", "mock"]', "two models are called 'mock'"),
        ('bind = "8000"', "`bind` must be HOST:PORT"),
    ],
)
def test_check_refuses_what_a_node_would_refuse(types: Types, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    code, out, err = types("config", "check", str(file))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("llmactors: ")
    assert says in err


def test_check_of_no_file_is_one_line(types: Types) -> None:
    said = "llmactors: cannot read /no/such.toml: No such file or directory\n"
    assert types("config", "check", "/no/such.toml") == (2, "", said)


def test_unknown_variable_stops_a_node() -> None:
    result = llmactors("--model", "mock", "--bind", "127.0.0.1:0", LLMACTORS_SLOT="2")
    said = "llmactors: there is no variable LLMACTORS_SLOT; did you mean LLMACTORS_SLOTS?\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", said)


def test_service_variables_of_kubernetes_are_ignored() -> None:
    result = llmactors("config", LLMACTORS_PORT="tcp://10.0.0.1:8000", LLMACTORS_SERVICE_HOST="10.0.0.1")
    assert (result.returncode, result.stderr) == (0, "")
    assert tomllib.loads(result.stdout)["bind"] == "127.0.0.1:8000"
