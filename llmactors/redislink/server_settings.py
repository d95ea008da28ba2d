"""The settings of a server under which it can lose what it accepted, and what to set instead."""

from collections.abc import Mapping

from llmactors.redislink.call import Call

_NAMES = ("maxmemory-policy", "appendonly", "appendfsync", "cluster-enabled")
_IN_INFO = {"maxmemory_policy": "maxmemory-policy", "aof_enabled": "appendonly", "cluster_enabled": "cluster-enabled"}
_YES_OR_NO = {"0": "no", "1": "yes"}


async def wrong_settings(ask: Call) -> dict[str, str]:
    """What is wrong with each setting, by its name; nothing for settings that the server does not show.

    `ask` returns None for an error reply, because hosted servers often forbid CONFIG, INFO or both.
    """
    answer = await ask("CONFIG", "GET", *_NAMES)
    found = _from_config(answer) if answer else _from_info(await ask("INFO"))
    return judge(found)


def judge(settings: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with each of these settings, by its name."""
    wrong = {}
    if (policy := settings.get("maxmemory-policy", "noeviction")) != "noeviction":
        wrong["maxmemory-policy"] = (
            f"`maxmemory-policy` is {policy}: Redis may delete accepted requests; set it to noeviction"
        )
    if settings.get("appendonly", "yes") == "no":
        wrong["appendonly"] = (
            "`appendonly` is no: a restart of Redis loses accepted requests; set `appendonly` to yes and `appendfsync` "
            "to always"
        )
    elif (sync := settings.get("appendfsync", "always")) != "always":
        wrong["appendfsync"] = f"`appendfsync` is {sync}: a crash of Redis loses its last writes; set it to always"
    if settings.get("cluster-enabled", "no") == "yes":
        wrong["cluster-enabled"] = (
            "`cluster-enabled` is yes: with the URL of one server, llmactors works only while the server holds all "
            "16384 slots; name the Redis Cluster by cluster://HOST:PORT,…, or set `cluster-enabled` to no"
        )
    return wrong


def _from_config(answer: object) -> dict[str, str]:
    if not isinstance(answer, dict):
        return {}
    return {_text(name): _text(value) for name, value in answer.items()}


def _from_info(answer: object) -> dict[str, str]:
    if not isinstance(answer, bytes):
        return {}
    pairs = (line.partition(":") for line in _text(answer).splitlines())
    known = {_IN_INFO[name]: value for name, _, value in pairs if name in _IN_INFO}
    return {name: _YES_OR_NO.get(value, value) for name, value in known.items()}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
