"""Reloads the settings of a running node, and says in one log line what has changed."""

from llmactors.config import LiveSettings, Reloaded
from llmactors.errors import ConfigError
from llmactors.telemetry.logs import get_logger

log = get_logger("llmactors.system")


def reload_settings(live: LiveSettings) -> Reloaded:
    """Reads the settings of a node again, and logs what has changed, or why nothing has changed.

    Raises `ConfigError` where a source is wrong. Then nothing has changed.
    """
    try:
        found = live.reload()
    except ConfigError as error:
        log.error("the settings were not reloaded and stay as they are", reason=error.message)  # noqa: TRY400
        raise
    changed = {name: f"{old} -> {new}" for name, (old, new) in found.changed.items()}
    if found.fixed:
        log.warning("settings were reloaded; some need a restart", changed=changed, need_a_restart=[*found.fixed])
    else:
        log.info("settings were reloaded", changed=changed)
    return found
