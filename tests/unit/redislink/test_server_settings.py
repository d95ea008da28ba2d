"""Which settings of a server are wrong, also where the server shows only some of them."""

import pytest

from llmactors.redislink.server_settings import judge, wrong_settings

RIGHT = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always", "cluster-enabled": "no"}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, set()),
        ({"maxmemory-policy": "allkeys-lru"}, {"maxmemory-policy"}),
        ({"appendfsync": "everysec"}, {"appendfsync"}),
        ({"appendonly": "no", "appendfsync": "everysec"}, {"appendonly"}),
        ({"cluster-enabled": "yes", "maxmemory-policy": "volatile-ttl"}, {"cluster-enabled", "maxmemory-policy"}),
    ],
)
async def test_each_wrong_setting_is_named(changed: dict[str, str], wrong: set[str]) -> None:
    settings = RIGHT | changed
    found = judge(settings)
    assert set(found) == wrong
    for name, sentence in found.items():
        assert f"`{name}` is {settings[name]}" in sentence

    async def config(*_: object) -> dict[bytes, bytes]:
        return {name.encode(): value.encode() for name, value in settings.items()}

    assert await wrong_settings(config) == found


async def test_info_takes_the_place_of_config() -> None:
    async def info(*args: object) -> bytes | None:
        return b"maxmemory_policy:allkeys-lru\r\naof_enabled:0\r\ncluster_enabled:1\r\n" if args == ("INFO",) else None

    assert set(await wrong_settings(info)) == {"maxmemory-policy", "appendonly", "cluster-enabled"}


async def test_server_that_shows_nothing_has_no_wrong_setting() -> None:
    async def nothing(*_: object) -> None:
        return None

    assert await wrong_settings(nothing) == {}
