"""Asks the Sentinels which server is the master."""

from typing import Any

import trio

from llmactors.errors import LlmactorsError
from llmactors.redislink.address import Address, Endpoint
from llmactors.redislink.errors import AccessDenied, Unreachable, UnusableServer, reason_of
from llmactors.redislink.question import ask_once
from llmactors.redislink.settings import LinkSettings


async def find_master(address: Address, settings: LinkSettings) -> Endpoint:
    """The master's address, from the first Sentinel that answers, in the order of the URL.

    Raises:
        Unreachable: No Sentinel answers, or those that answer know no such service.
        UnusableServer: A Sentinel refuses the password.
    """
    known_nowhere = False
    last: LlmactorsError | None = None
    for sentinel in address.sentinels:
        try:
            with trio.fail_after(settings.connect_s / (len(address.sentinels) + 1)):
                answer = await _ask(address, sentinel, settings)
        except trio.TooSlowError:
            last = Unreachable(f"the Sentinel at {sentinel} does not answer")
            continue
        except AccessDenied as error:
            raise UnusableServer(
                f"the Sentinel at {sentinel} refuses the password (option `sentinel_password` of the URL)"
            ) from error
        except LlmactorsError as error:
            last = error
            continue
        if answer is not None:
            return answer
        known_nowhere = True
    if known_nowhere:
        raise Unreachable(f"no Sentinel knows a master with the name {address.service!r}")
    raise Unreachable(f"no Sentinel answers: {reason_of(last) if last else 'the URL names none'}")


async def _ask(address: Address, sentinel: Endpoint, settings: LinkSettings) -> Endpoint | None:
    question = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service
    login = address.sentinel_username, address.sentinel_password
    return _endpoint(await ask_once(address, sentinel, settings, login, question))


def _endpoint(answer: Any) -> Endpoint | None:
    match answer:
        case [bytes() as host, bytes() as port] if port.isdigit():
            return Endpoint(host.decode("utf-8", "replace"), int(port))
        case None:
            return None
        case _:
            raise Unreachable("a Sentinel answered with something that is no address")
