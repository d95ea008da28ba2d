"""The wire to Redis: one pipelined RESP3 connection on a Trio stream.

`link.py` keeps it up, `connection.py` is one connection, `protocol.py` its half without I/O; `address.py`,
`sentinel.py` and `dial.py` find the server and log in; `errors.py` names what can go wrong;
`binary.py` finds a server's program.
"""

from llmactors.redislink.link import Call, RedisLink
from llmactors.redislink.settings import LinkSettings, LinkStatistics, ServerIdentity

__all__ = ["Call", "LinkSettings", "LinkStatistics", "RedisLink", "ServerIdentity"]
