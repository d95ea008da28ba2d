"""A configuration as TOML and as JSON, and what is covered."""

import json
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.config import SETTINGS, Settings, configure
from llmactors.config.masks import mask_model, mask_url
from llmactors.config.show import as_json, as_toml


def test_toml_says_what_was_given_and_where(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('rate_limit = "5/s"')
    lines = as_toml(configure({"slots": 2}, file=file, environ={"LLMACTORS_MODEL": "a\nb c"})).splitlines()
    assert len(lines) == len(SETTINGS)
    for line in (
        'model = ["a", "b c"]  # LLMACTORS_MODEL',
        "slots = 2  # --slots",
        f'rate_limit = "5/s"  # {file}',
        "drain_s = 20.0  # default",
        "access_log = false  # default",
        "# threads is not set  # default",
    ):
        assert line in lines


@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1),
    st.floats(0, 10**9),
    st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_toml_gives_the_same_settings_again(models: list[str], drain_s: float, keys: str) -> None:
    configuration = configure({"model": models, "drain_s": drain_s, "keys": keys}, environ={})
    shown = tomllib.loads(as_toml(configuration))
    if mask_model(" ".join(models)) == " ".join(models):
        assert configure(shown, environ={}).settings == configuration.settings


def test_json_has_each_value_and_its_source() -> None:
    shown = json.loads(as_json(configure({}, environ={"LLMACTORS_SLOTS": "2"})))
    assert shown.keys() == attrs.fields_dict(Settings).keys()
    assert shown["slots"] == {"value": 2, "source": "LLMACTORS_SLOTS"}
    assert shown["threads"] == {"value": None, "source": "default"}


def test_secrets_are_covered() -> None:
    secrets = {
        "model": ["gpt=openai:https://u:s3cr3t@h/v1,model=x|https://s3cr3t@h2/v1?key=s3cr3t,model=y"],
        "redis": "rediss://me:s3cr3t@h:6379/0",
    }
    configuration = configure(secrets, environ={"GATEWAY_API_KEY": "s3cr3t"})
    for text in (as_toml(configuration), as_json(configuration)):
        assert "s3cr3t" not in text
        assert "rediss://me:***@h:6379/0" in text
        assert "gpt=openai:https://u:***@h/v1,model=x|https://***@h2/v1?key=***,model=y" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:p@h", "redis://:***@h"),
        ("redis://u:p@ss/w#rd@h:1", "redis://u:***@h:1"),
        ("unix:///run/redis.sock?password=p&db=1", "unix:///run/redis.sock?password=***&db=1"),
        ("http://h/v1?api_key=p", "http://h/v1?api_key=***"),
    ],
)
def test_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("a@b=mock:step_ms=1", "a@b=mock:step_ms=1"),
        ("openai:http://h/v1,model=x@1,key_env=VAR", "openai:http://h/v1,model=x@1,key_env=VAR"),
        ("my.module:Backend,api_key=p,size=3", "my.module:Backend,api_key=***,size=3"),
    ],
)
def test_model_is_shown_without_its_keys(model: str, shown: str) -> None:
    assert mask_model(model) == shown
