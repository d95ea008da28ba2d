"""Which source gives a setting its value, and that an error names the setting and its source."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from llmactors.config import SETTINGS, Settings, configure, load
from llmactors.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_defaults_apply_without_other_sources() -> None:
    assert load({}, environ={}) == Settings()


def test_flag_beats_variable_beats_file_beats_default(file: Path) -> None:
    file.write_text("drain_s = 1\nslots = 1\nthreads = 1\n")
    environ = {"LLMACTORS_SLOTS": "2", "LLMACTORS_THREADS": "2"}
    settings = load({"threads": 3, "context": None}, file=file, environ=environ)
    assert (settings.context, settings.drain_s, settings.slots, settings.threads) == (None, 1.0, 2, 3)


def test_byte_order_mark_of_a_file_is_ignored(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfslots = 7\r\n")
    assert load({}, file=file, environ={}).slots == 7


def test_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^/dev/zero is no file of settings: it has more than"):
        load({}, file=Path("/dev/zero"), environ={})


def test_each_value_has_its_source(file: Path) -> None:
    file.write_text("drain_s = 1\nslots = 1\nthreads = 1\n")
    environ = {"LLMACTORS_SLOTS": "2", "LLMACTORS_THREADS": "2", "GATEWAY_API_KEY": "s3cr3t"}
    sources = configure({"threads": 3}, file=file, environ=environ).sources
    assert sources.keys() == SETTINGS.keys()
    given = {name: source for name, source in sources.items() if source != "default"}
    assert given == {
        "drain_s": f"{file}",
        "slots": "LLMACTORS_SLOTS",
        "threads": "--threads",
        "api_key": "GATEWAY_API_KEY",
    }


@pytest.mark.parametrize("name", attrs.fields_dict(Settings))
def test_every_setting_has_a_variable(name: str) -> None:
    values = {
        "model": "mock\nother",
        "allowed_origins": "https://a.example\nhttp://b.example:8080",
        "trusted_proxies": "10.0.0.0/8\n::1",
        "bind": ":17",
        "metrics_bind": ":17",
        "rate_limit": "5/s",
        "rate_algorithm": "fixed_window",
        "log_level": "debug",
        "models": '{"m": {"source": "mock"}}',
        "prices": '{"m": {"prompt": 17}}',
        "keeper": "false",
    }
    is_flag = name in {"access_log", "drills", "traces"}
    text = values.get(name, "json" if name == "log_format" else "true" if is_flag else "17")
    settings = load({}, environ={f"LLMACTORS_{name.upper()}": text})
    beside: dict[str, Any] = {"model": ()} if name == "models" else {}
    assert settings == attrs.evolve(Settings(), **beside, **{name: getattr(settings, name)})
    assert getattr(settings, name) != getattr(Settings(), name)


def test_one_value_in_a_file_needs_no_array(file: Path) -> None:
    file.write_text('model = "mock"')
    assert load({}, file=file, environ={}).model == ("mock",)
    file.write_text('model = ["a", "b"]')
    assert load({}, file=file, environ={}).model == ("a", "b")


def test_repr_shows_no_secret() -> None:
    secrets = {"model": ["openai:http://:s3cr3t@h,model=x"], "redis": "redis://:s3cr3t@h"}
    settings = load(secrets, environ={"GATEWAY_API_KEY": "s3cr3t"})
    assert "s3cr3t" not in f"{settings!r} {settings} {[settings]}"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('slots = "many"', "slots"),
        ("slots = 0", "slots"),
        ("slots = 1.5", "slots"),
        ("slots = true", "slots"),
        ("drain_s = -1", "drain_s"),
        ("drain_s = nan", "drain_s"),
        ("hung_s = 0", "hung_s"),
        ("hung_s = inf", "hung_s"),
        ("resume_grace_s = inf", "resume_grace_s"),
        ("resume_grace_s = 1e300", "resume_grace_s"),
        ("max_queued = 10000000000000000000000", "max_queued"),
        ('rate_limit = "1/99999999999999999999s"', "rate_limit"),
        ("context = 15", "context"),
        ("bind = 8000", "bind"),
        ("model = [1]", "model"),
        ("model = []", "model"),
        ('model = ""', "model"),
        ("access_log = 7", "access_log"),
        ("api_key = 5", "api_key"),
        ('api_key = ""', "api_key"),
        ('keys = ""', "keys"),
        ('allowed_origins = "example.com"', "allowed_origins"),
        ('allowed_origins = ["https://example.com/"]', "allowed_origins"),
        ('allowed_origins = "https://"', "allowed_origins"),
        ('allowed_hosts = "http://llm.example.com"', "allowed_hosts"),
        ('allowed_hosts = "*.example.com"', "allowed_hosts"),
        ('allowed_hosts = ""', "allowed_hosts"),
        ('trusted_proxies = "nginx"', "trusted_proxies"),
        ('trusted_proxies = ["10.0.0.0/33"]', "trusted_proxies"),
        ('rate_limit = "60"', "rate_limit"),
        ('rate_algorithm = "leaky"', "rate_algorithm"),
        ('log_level = "loud"', "log_level"),
        ('log_format = "xml"', "log_format"),
        ("drains = 5", "drains"),
        ("[drain_s]\nx = 1", "drain_s"),
    ],
)
def test_error_names_the_file_and_the_setting(file: Path, text: str, named: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"node\.toml: .*`{named}(\[0\])?`"):
        load({}, file=file, environ={})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slots", "many"),
        ("drain_s", "-1"),
        ("access_log", "maybe"),
        ("rate_limit", "5"),
        ("log_level", "x"),
        ("model", " "),
    ],
)
def test_error_names_variable_or_flag_and_the_setting(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^LLMACTORS_{name.upper()}: `{name}`"):
        load({}, environ={f"LLMACTORS_{name.upper()}": value})
    with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')}: `{name}`"):
        load({name: value.split() if name == "model" else value}, environ={})


@pytest.mark.parametrize("name", ["api_key", "redis", "model"])
def test_error_shows_no_secret(file: Path, name: str) -> None:
    file.write_text(f'{name} = {{ x = "s3cr3t" }}')
    with pytest.raises(ConfigError) as caught:
        load({}, file=file, environ={})
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize("text", ["slots =", "slots = 1\nslots = 2", "\xff"])
def test_file_that_is_not_toml_is_refused(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"node\.toml is not valid TOML"):
        load({}, file=file, environ={})


def test_unreadable_file_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*node\.toml: No such file"):
        load({}, file=file, environ={})
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        load({}, file=tmp_path, environ={})
