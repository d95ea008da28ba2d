"""Where each setting comes from, and that a wrong one is named together with its place."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.config import Settings, load, parse_rate
from llmactors.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_without_anything_they_are_the_defaults() -> None:
    assert load({}, environ={}) == Settings()


def test_flags_go_before_variables_before_the_file_before_the_defaults(file: Path) -> None:
    file.write_text("drain_s = 1\nslots = 1\nthreads = 1\n")
    environ = {"LLMACTORS_SLOTS": "2", "LLMACTORS_THREADS": "2"}
    settings = load({"threads": 3, "context": None}, file=file, environ=environ)
    assert (settings.context, settings.drain_s, settings.slots, settings.threads) == (None, 1.0, 2, 3)


@pytest.mark.parametrize("name", attrs.fields_dict(Settings))
def test_every_setting_has_a_variable(name: str) -> None:
    values = {
        "model": "mock other",
        "allowed_origins": "https://a.example http://b.example:8080",
        "rate_limit": "5/s",
        "rate_algorithm": "fixed_window",
        "log_level": "debug",
    }
    text = values.get(name, "json" if name == "log_format" else "true" if name == "access_log" else "17")
    settings = load({}, environ={f"LLMACTORS_{name.upper()}": text})
    assert settings == attrs.evolve(Settings(), **{name: getattr(settings, name)})
    assert getattr(settings, name) != getattr(Settings(), name)


def test_several_models_in_one_variable() -> None:
    environ = {"LLMACTORS_MODEL": " fast=mock:step_ms=1,slots=2\t./a.gguf\n"}
    assert load({}, environ=environ).model == ("fast=mock:step_ms=1,slots=2", "./a.gguf")


def test_one_model_in_a_file_needs_no_list(file: Path) -> None:
    file.write_text('model = "mock"')
    assert load({}, file=file, environ={}).model == ("mock",)
    file.write_text('model = ["a", "b"]')
    assert load({}, file=file, environ={}).model == ("a", "b")


def test_the_origins_variable_for_the_key() -> None:
    """Our own name for it, being more special, goes first; an empty variable is none."""
    assert load({}, environ={"GATEWAY_API_KEY": "old"}).api_key == "old"
    assert load({}, environ={"GATEWAY_API_KEY": "old", "LLMACTORS_API_KEY": "new"}).api_key == "new"
    assert load({}, environ={"GATEWAY_API_KEY": "", "LLMACTORS_API_KEY": ""}).api_key is None


def test_variables_of_others_and_empty_ones_do_not_count() -> None:
    environ = {"LLMACTORS_URL": "http://x", "SLOTS": "3", "LLMACTORS_SLOTS": "", "llmactors_slots": "4"}
    assert load({}, environ=environ) == Settings()


def test_the_key_is_in_no_representation() -> None:
    settings = load({}, environ={"GATEWAY_API_KEY": "s3cr3t"})
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
        ('rate_limit = "60"', "rate_limit"),
        ('rate_algorithm = "leaky"', "rate_algorithm"),
        ('log_level = "loud"', "log_level"),
        ('log_format = "xml"', "log_format"),
        ("drains = 5", "drains"),
        ("[drain_s]\nx = 1", "drain_s"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(file: Path, text: str, named: str) -> None:
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
def test_what_is_wrong_elsewhere_is_named_with_its_place(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^environment: `{name}`"):
        load({}, environ={f"LLMACTORS_{name.upper()}": value})
    with pytest.raises(ConfigError, match=f"^flags: `{name}`"):
        load({name: value.split() if name == "model" else value}, environ={})


def test_no_error_holds_the_key(file: Path) -> None:
    file.write_text('api_key = ["s3cr3t"]')
    with pytest.raises(ConfigError) as caught:
        load({}, file=file, environ={})
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize("text", ["slots =", "slots = 1\nslots = 2", "\xff"])
def test_a_file_that_is_no_toml(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"node\.toml is not valid TOML"):
        load({}, file=file, environ={})


def test_a_file_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*node\.toml: No such file"):
        load({}, file=file, environ={})
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        load({}, file=tmp_path, environ={})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/min", (60, 60.0)),
        ("5/s", (5, 1.0)),
        ("1000/h", (1000, 3600.0)),
        ("100/10s", (100, 10.0)),
        ("1/0.5s", (1, 0.5)),
    ],
)
def test_rates(text: str, rate: tuple[int, float]) -> None:
    assert parse_rate(text) == rate


@given(st.integers(1, 999_999_999), st.floats(0.001, 1e6).map(lambda number: f"{number:.3f}"))
def test_a_rate_says_what_it_said(requests: int, seconds: str) -> None:
    assert parse_rate(f"{requests}/{seconds}s") == (requests, float(seconds))


@given(st.one_of(st.text(), st.from_regex(r"[0-9.\-+e]{0,12}/[0-9.\-+e]{0,12}(s|min|h|d)?", fullmatch=True)))
def test_any_other_text_is_refused_and_never_breaks_it(text: str) -> None:
    try:
        rate = parse_rate(text)
    except ConfigError as error:
        assert "rate_limit" in error.message  # noqa: PT017 - most texts are wrong, not all
    else:
        assert rate is not None
        assert rate[0] >= 1
        assert 0 < rate[1] < float("inf")


@pytest.mark.parametrize(
    "text", ["0/s", "-1/s", "5/0s", "5/0.000s", "1/" + "9" * 400 + "s", "٣/s", "5/s\n", " 5/s", "5/d", ""]
)
def test_wrong_rates(text: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit"):
        parse_rate(text)


def test_no_rate() -> None:
    assert parse_rate(None) is None
