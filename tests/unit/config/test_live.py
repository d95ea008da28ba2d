"""A reload changes what can change, names what cannot, and changes nothing where a source is wrong."""

import attrs
import pytest

from llmactors.config import SETTINGS, LiveSettings, Settings
from llmactors.errors import ConfigError

FIRST = Settings(rate_limit="60/min", api_key="secret", drain_s=20.0)


def test_reload_changes_what_is_declared_reloadable() -> None:
    fresh = attrs.evolve(FIRST, rate_limit="5/s", log_level="debug", drain_s=3.0, api_key="other")
    live = LiveSettings(FIRST, lambda: fresh)
    told: list[str | None] = []
    live.on_change(["rate_limit"], lambda now: told.append(now.rate_limit))
    live.on_change(["allowed_origins"], lambda now: told.append("never"))
    found = live.reload()
    assert found.changed == {"rate_limit": ("60/min", "5/s"), "log_level": ("info", "debug")}
    assert found.fixed == ("api_key", "drain_s")
    assert told == ["5/s"]
    assert (live.settings.rate_limit, live.settings.drain_s) == ("5/s", 20.0)
    assert live.reload().changed == {}


def test_wrong_source_changes_nothing() -> None:
    def broken() -> Settings:
        raise ConfigError("`rate_limit` must be COUNT/PERIOD")

    live = LiveSettings(FIRST, broken)
    live.on_change(["rate_limit"], lambda _: pytest.fail("nothing has changed"))
    with pytest.raises(ConfigError):
        live.reload()
    assert live.settings is FIRST


def test_settings_of_a_program_cannot_be_reread() -> None:
    with pytest.raises(ConfigError, match="a program gave this node its settings"):
        LiveSettings(FIRST).reload()


@pytest.mark.parametrize("name", [name for name, each in SETTINGS.items() if not each.reloadable][:5])
def test_nobody_listens_for_what_cannot_change(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LiveSettings(FIRST).on_change([name], lambda _: None)
