"""Redis says something unusual."""

from tests.faults.fault import Edit, Fault

_SETTINGS = "Settings of Redis under which requests can be lost"

FAULTS = (
    Fault(
        "An error reply of Redis, or a key of another type",
        (
            Edit("redislink/errors.py", "class ReplyError(Unavailable):", "class ReplyError(LlmactorsError):"),
            Edit(
                "redislink/errors.py",
                '"the ledger refuses requests at the moment; try again", retry_after_s=_RETRY_AFTER_S',
                "text",
            ),
        ),
        cases="writes",
    ),
    Fault(
        "A key of one request that has another type",
        (
            Edit("ledger/redis/context.lua", "local done, found = pcall(step, ...)", "local found = step(...)"),
            Edit("ledger/redis/context.lua", "if done then return found end", "if true then return found end"),
        ),
    ),
    Fault(
        "An outage of Redis is in no log and no metric",
        (
            Edit(
                "system/cluster_node.py",
                '            ActorSpec("redis monitor", lambda: RedisMonitorActor(watched, health, observe)),\n',
                "",
            ),
        ),
        cases="connection",
    ),
    Fault(
        "A connection to Redis that is reset before its first read",
        (Edit("redislink/transport.py", "            if self._socket.fileno() < 0:\n", "            if False:\n"),),
    ),
    Fault(
        "Redis loses what it had acknowledged",
        (Edit("ledger/redis/losses.py", "if was_growing or not self._unsaid:", "if True:"),),
        cases="restored",
    ),
    Fault(
        _SETTINGS,
        (Edit("redislink/server_settings.py", "    wrong = {}\n", "    return {}\n    wrong = {}\n"),),
    ),
    Fault(
        "A node that starts while Redis is away ends",
        (
            Edit("system/cluster_node.py", "attrs.evolve(LEDGER_LINK, starts_without_server=True)", "LEDGER_LINK"),
            Edit("system/cluster_node.py", "LinkSettings(starts_without_server=True)", "LinkSettings()"),
        ),
    ),
    Fault(
        "The Redis server of `up` is open",
        (
            Edit("cluster/own_server.py", "            umask=PRIVATE,\n", ""),
            Edit("cluster/own_server.py", '"unixsocketperm": "700"', '"unixsocketperm": "777"'),
            Edit("cluster/own_server.py", "        _make_private(self._data)\n", ""),
        ),
    ),
    Fault(
        "An idle cluster fills the append-only file",
        (
            Edit(
                "ledger/redis/leases.lua",
                "write_volatile('HSET', counters, 'seen', c.now)",
                "redis.call('HSET', counters, 'seen', c.now)",
            ),
        ),
    ),
)
