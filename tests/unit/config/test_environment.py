"""Settings as variables: their text, unknown ones, those of other programs, and the environment of a child process."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmactors.config import SETTINGS, DeclaredModel, DeclaredPrice, Settings, child_environment, load
from llmactors.errors import ConfigError

TEXTS = st.text(st.characters(exclude_characters="\0"), min_size=1)
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
SECONDS = st.floats(0, 10**9, exclude_min=True)
COUNTS = st.integers(1, 10**9)
ORIGINS = st.from_regex(r"https?://[a-z0-9.:, -]{1,20}", fullmatch=True).filter(lambda text: not set(text) & set(" "))
VALUES = {
    "model": st.lists(st.text(min_size=1).filter(str.strip), min_size=1).map(tuple),
    "models": st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
        st.builds(DeclaredModel, source=TEXTS, memory=st.sampled_from([None, "2GiB", 17]), slots=st.none() | COUNTS),
        max_size=3,
    ),
    "prices": st.dictionaries(NAMES, st.builds(DeclaredPrice, prompt=st.floats(0, 100), cached=st.none()), max_size=3),
    "model_memory": st.sampled_from(["512MiB", "1.5GB"]),
    "redis": TEXTS.map(str.strip).filter(bool),
    "api_key": TEXTS.map(str.strip).filter(bool),
    "keys": TEXTS.map(str.strip).filter(bool),
    "allowed_origins": st.lists(st.just("*") | ORIGINS).map(tuple),
    "allowed_hosts": st.lists(st.just("*") | st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True)).map(
        tuple
    ),
    "trusted_proxies": st.lists(st.ip_addresses().map(str) | st.just("10.0.0.0/8")).map(tuple),
    "rate_limit": st.sampled_from(["60/min", "5/s", "100/2.5s"]),
    "namespace": NAMES,
    "context": st.integers(16, 10**9),
    "max_image_body_bytes": st.integers(1, 16 * 2**20),
    "access_log": st.booleans(),
    "drills": st.booleans(),
    "keeper": st.booleans(),
    "traces": st.booleans(),
}


def values_of(name: str) -> st.SearchStrategy[object]:
    setting = SETTINGS[name]
    if setting.choices:
        return st.sampled_from(setting.choices)
    found = VALUES.get(name, SECONDS if setting.value_type is float else COUNTS)
    return st.none() | found if setting.default is None else found


@example({"models": {"odd": DeclaredModel(source="/not-utf-8/\udcff.gguf")}})
@given(st.fixed_dictionaries({name: values_of(name) for name, each in SETTINGS.items() if each.inherited}))
def test_child_has_the_same_settings(values: dict[str, object]) -> None:
    settings = Settings(**values)  # type: ignore[arg-type]
    outside = {"LLMACTORS_SLOTS": "7", "LLMACTORS_BIND": "x", "GATEWAY_API_KEY": "other", "HOME": "/root"}
    environ = child_environment(settings, outside)
    assert load({}, environ=environ) == settings
    assert environ["HOME"] == "/root"


def test_child_process_has_the_same_settings(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path / "my model, new") + b"\xff.gguf")
    settings = Settings(model=(path, "[odd]", "two\nlines", " mock "), api_key="s3 cr3t")
    code = "import os; from llmactors.config import load; print(ascii(load({}).model), ascii(load({}).api_key))"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=child_environment(settings), capture_output=True, text=True, check=True)
    assert answer.stdout == f"{settings.model!a} {settings.api_key!a}\n"


def test_child_takes_no_setting_of_another_node() -> None:
    settings = Settings(name="w1", bind="127.0.0.1:1", metrics_bind="127.0.0.1:2")
    assert load({}, environ=child_environment(settings, {"LLMACTORS_NAME": "w2"})) == Settings()


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("mock", ("mock",)),
        ("/models/my model, new.gguf", ("/models/my model, new.gguf",)),
        (" fast=mock:step_ms=1,slots=2\n\n./a b.gguf \n", ("fast=mock:step_ms=1,slots=2", "./a b.gguf")),
        ('["mock", "/models/my model.gguf"]', ("mock", "/models/my model.gguf")),
        (' [\n"mock",\n"[x]"\n] ', ("mock", "[x]")),
    ],
)
def test_list_is_one_value_per_line_or_a_json_array(text: str, models: tuple[str, ...]) -> None:
    assert load({}, environ={"LLMACTORS_MODEL": text}).model == models


@pytest.mark.parametrize("text", ['["mock"', "[mock]", '["mock"] x', "[1]", "[[]]", "[]", '[""]'])
def test_wrong_array_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^LLMACTORS_MODEL: `model(\[0\])?`"):
        load({}, environ={"LLMACTORS_MODEL": text})


@pytest.mark.parametrize("variable", ["GATEWAY_API_KEY", "LLMACTORS_API_KEY"])
def test_blanks_around_a_secret_do_not_count(variable: str) -> None:
    assert load({}, environ={variable: " s3cr3t\r\n"}).api_key == "s3cr3t"
    assert load({}, environ={variable: "\n"}).api_key is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("slots", " 4\r\n", 4),
        ("log_format", "JSON\n", "json"),
        ("log_level", "Warning ", "warning"),
        ("access_log", "true\n", True),
        ("rate_limit", "60/min\n", "60/min"),
        ("bind", "127.0.0.1:0\n", "127.0.0.1:0"),
    ],
)
def test_blanks_and_capitals_in_a_variable_do_not_count(name: str, text: str, value: object) -> None:
    assert getattr(load({}, environ={f"LLMACTORS_{name.upper()}": text}), name) == value


def test_gateway_api_key_gives_the_key() -> None:
    assert load({}, environ={"GATEWAY_API_KEY": "a"}).api_key == "a"
    assert load({}, environ={"GATEWAY_API_KEY": "a", "LLMACTORS_API_KEY": "b"}).api_key == "b"
    assert load({}, environ={"GATEWAY_API_KEY": "", "LLMACTORS_API_KEY": ""}).api_key is None


def test_empty_and_foreign_variables_give_nothing() -> None:
    environ = {"LLMACTORS_URL": "http://x", "LLMACTORS_CACHE": "/x", "SLOTS": "3", "LLMACTORS_SLOTS": ""}
    assert load({}, environ={**environ, "llmactors_slots": "4"}) == Settings()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LLMACTORS_SLOT", "LLMACTORS_SLOTS"),
        ("LLMACTORS_RATELIMIT", "LLMACTORS_RATE_LIMIT"),
        ("LLMACTORS_CACHE_DIR", "LLMACTORS_CACHE"),
        ("LLMACTORS_DRAIN", "LLMACTORS_DRAIN_S"),
    ],
)
def test_unknown_variable_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"^there is no variable {name}; did you mean {nearest}\?$"):
        load({}, environ={name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLMACTORS_PORT", "tcp://10.96.0.12:8000"),
        ("LLMACTORS_SERVICE_HOST", "10.96.0.12"),
        ("LLMACTORS_SERVICE_PORT", "8000"),
        ("LLMACTORS_SERVICE_PORT_HTTP", "8000"),
        ("LLMACTORS_PORT_8000_TCP", "tcp://10.96.0.12:8000"),
        ("LLMACTORS_PORT_8000_TCP_PROTO", "tcp"),
        ("LLMACTORS_PORT_8000_TCP_PORT", "8000"),
        ("LLMACTORS_PORT_8000_TCP_ADDR", "10.96.0.12"),
        ("LLMACTORS_GATEWAY_SERVICE_HOST", "10.96.0.13"),
        ("LLMACTORS_GATEWAY_PORT", "tcp://10.96.0.13:8000"),
        ("LLMACTORS_GATEWAY_PORT_53_UDP", "udp://10.96.0.13:53"),
        ("LLMACTORS_NAME", "/web/llmactors"),
        ("LLMACTORS_ENV_PATH", "/usr/bin"),
    ],
)
def test_variable_of_a_service_is_ignored(name: str, value: str) -> None:
    assert load({}, environ={name: value}) == Settings()


@pytest.mark.parametrize(("name", "value"), [("LLMACTORS_PORT", "8000"), ("LLMACTORS_GATEWAY_PORT", "8000")])
def test_port_that_is_no_service_is_unknown(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^there is no variable {name}"):
        load({}, environ={name: value})


def test_each_setting_has_a_variable() -> None:
    fields = attrs.fields_dict(Settings)
    assert {f"LLMACTORS_{name.upper()}" for name in fields} == {each.variable for each in SETTINGS.values()}
