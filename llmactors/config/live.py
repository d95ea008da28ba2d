"""The settings of a running node. A reload reads all sources again, and changes the settings that are `reloadable`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from llmactors.config.settings import SETTINGS, Settings
from llmactors.errors import ConfigError


@attrs.frozen
class Reloaded:
    """What a reload has found. Secrets in values are covered."""

    changed: Mapping[str, tuple[Any, Any]]
    """The old and the new value of each setting that has changed."""
    fixed: tuple[str, ...]
    """The settings that have other values now, and that only a restart of the node changes."""


class LiveSettings:
    """The settings of one node.

    Args:
        settings: The settings at the start.
        reread: Reads the settings again from their sources, and raises `ConfigError` where one is wrong. None where the
            settings come from a program, which cannot be asked again.
    """

    def __init__(self, settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        """The settings as they are now."""
        self.reread = reread
        self._listeners: list[tuple[frozenset[str], Callable[[Settings], None]]] = []

    def __repr__(self) -> str:
        return f"<LiveSettings {'from files' if self.reread else 'of a program'}, {len(self._listeners)} listeners>"

    def on_change(self, names: Iterable[str], apply: Callable[[Settings], None]) -> None:
        """Calls `apply` with the new settings after each reload that changes one of `names`. `apply` must not raise.

        Raises `ValueError` for a setting that is not declared as reloadable.
        """
        wanted = frozenset(names)
        if wrong := [name for name in wanted if not SETTINGS[name].reloadable]:
            raise ValueError(f"{', '.join(wrong)} cannot change while a node runs")
        self._listeners.append((wanted, apply))

    def reload(self) -> Reloaded:
        """Reads all settings again, and changes those that can change.

        Raises `ConfigError` where a source is wrong. Then nothing has changed.
        """
        if self.reread is None:
            raise ConfigError("a program gave this node its settings, so there is nothing to read again")
        fresh = self.reread()
        changed = {name for name in SETTINGS if getattr(fresh, name) != getattr(self.settings, name)}
        able = {name for name in changed if SETTINGS[name].reloadable}
        before = self.settings
        self.settings = attrs.evolve(before, **{name: getattr(fresh, name) for name in able})
        for names, apply in self._listeners:
            if names & able:
                apply(self.settings)
        return Reloaded(
            {name: (_shown(before, name), _shown(self.settings, name)) for name in SETTINGS if name in able},
            tuple(name for name in SETTINGS if name in changed - able),
        )


def _shown(settings: Settings, name: str) -> Any:
    return SETTINGS[name].shown(getattr(settings, name))
