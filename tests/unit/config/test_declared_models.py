"""The tables of models that are loaded on demand: what is taken, and what is refused with the path of the mistake."""

import re
from pathlib import Path

import pytest

from llmactors.config import DeclaredModel, Settings, check_file, configure, load, parse_size
from llmactors.errors import ConfigError


def write(path: Path, text: str) -> Path:
    (path / "llmactors.toml").write_text(text)
    return path / "llmactors.toml"


def test_tables_declare_models(tmp_path: Path) -> None:
    file = write(tmp_path, '[models.a]\nsource = "mock"\nmemory = "2GiB"\nslots = 2\n[models.b]\npin = true\n')
    settings = load({}, file=file, environ={})
    assert settings.models == {"a": DeclaredModel(source="mock", memory="2GiB", slots=2), "b": DeclaredModel(pin=True)}
    assert settings.models["a"].memory_bytes == 2 * 2**30
    assert settings.model == ()


def test_default_model_is_served_only_where_nothing_is_declared(tmp_path: Path) -> None:
    file = write(tmp_path, "[models.a]\n")
    assert load({"model": ["mock"]}, file=file, environ={}).model == ("mock",)
    assert configure({}, environ={}).settings.model == Settings().model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 3", "`models` must be tables, as in [models.my-model], not 3"),
        ("models.a = 3", "`models.a` must be a table with the keys of one model, not 3"),
        ('models.a.memry = "1GiB"', "`models.a`: there is no key `memry`; did you mean memory?"),
        ('models.a.memory = "much"', "`models.a.memory` must be a size, as in 512MiB, 2GiB or 1.5GB, not 'much'"),
        ("models.a.memory = 0", "`models.a.memory` must be a size, as in 512MiB, 2GiB or 1.5GB, not 0"),
        ("models.a.slots = 0", "`models.a`: Expected `int` >= 1 - at `$.slots`"),
        ("models.a.idle_s = -1", "`models.a`: Expected `float` > 0.0 - at `$.idle_s`"),
        ('models."a b" = {}', "`models.a b`: a name has 1 to 64 letters, digits, dots, dashes or underscores"),
        ('models.a = {pin = true, group = "g"}', "`models.a`: a pinned model stays in memory; leave out `group`"),
        ('model_memory = "lots"', "`model_memory` must be a size, as in 512MiB, 2GiB or 1.5GB, not 'lots'"),
    ],
)
def test_wrong_table_is_refused_with_its_path(text: str, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: {message}')}"):
        load({}, file=file, environ={})
    assert check_file(file)[0] is None


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("512MiB", 2**29), ("2GiB", 2**31), ("1.5GB", 1_500_000_000), ("3g", 3 * 10**9), ("17", 17), (17, 17)],
)
def test_size_has_a_unit(text: str | int, size_bytes: int) -> None:
    assert parse_size(text, "memory") == size_bytes


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "1 000", "1XiB", "GiB", "1e9", "9999999999TiB"])
def test_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^`memory` must be a size"):
        parse_size(text, "memory")
