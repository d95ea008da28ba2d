"""Which node of a Redis Cluster holds a slot.

All keys of one ledger have one hash tag, so one slot. A link connects to the master of that slot, and to no other node.
Where the slot has moved, the node says MOVED: the link closes, and asks again. While the slot is being moved, its keys
are on two nodes, and no call that uses many of them can be right (`ASK`, `TRYAGAIN`): such a call is repeated until the
slot has moved.
"""

from typing import Any

import trio
from redis.crc import key_slot

from llmactors.errors import LlmactorsError
from llmactors.redislink.address import Address, Endpoint
from llmactors.redislink.errors import AccessDenied, Unreachable, UnusableServer, reason_of
from llmactors.redislink.question import ask_once
from llmactors.redislink.settings import LinkSettings

SLOTS = 16384


def slot_of(tag: str) -> int:
    """The slot of all keys with this hash tag."""
    return int(key_slot(tag.encode()))


async def find_holder(
    address: Address, nodes: tuple[Endpoint, ...], slot: int, settings: LinkSettings
) -> tuple[Endpoint, tuple[Endpoint, ...]]:
    """The master that holds the slot, and all nodes of the cluster, from the first of `nodes` that answers.

    Raises:
        Unreachable: No node answers, or no master holds the slot.
        UnusableServer: A node refuses the password.
    """
    last = "the URL names none"
    for node in nodes:
        try:
            with trio.fail_after(settings.connect_s / (len(nodes) + 1)):
                reply = await ask_once(
                    address, node, settings, (address.username, address.password), ("CLUSTER", "SLOTS")
                )
        except trio.TooSlowError:
            last = f"{node} does not answer"
            continue
        except AccessDenied as error:
            raise UnusableServer(f"the node {node} refuses the password") from error
        except LlmactorsError as error:
            last = reason_of(error)
            continue
        found, others = _read(reply, node, slot)
        if found is not None:
            return found, tuple(dict.fromkeys((*others, *nodes)))
        last = f"no master holds slot {slot}"
    raise Unreachable(f"no node of the Redis Cluster can be used: {last}")


def _read(reply: Any, asked: Endpoint, slot: int) -> tuple[Endpoint | None, list[Endpoint]]:
    """The holder of the slot, and all nodes of a reply to CLUSTER SLOTS."""
    holder: Endpoint | None = None
    nodes: list[Endpoint] = []
    for begin, end, *servers in reply if isinstance(reply, list) else ():
        endpoints = [_endpoint(server, asked) for server in servers]
        nodes += endpoints
        if begin <= slot <= end and endpoints:
            holder = endpoints[0]
    return holder, nodes


def _endpoint(server: list[Any], asked: Endpoint) -> Endpoint:
    # A node that does not know its own address leaves it out: it is the one that was asked.
    host = server[0].decode("utf-8", "replace") if server[0] else asked.host
    return Endpoint(host, int(server[1]))
