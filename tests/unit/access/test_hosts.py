"""Which names a node without keys answers to."""

import socket
import time

import pytest
import trio

from llmactors.access.hosts import ServedHosts
from llmactors.errors import Forbidden

MACHINE = socket.gethostname()


def hosts(*allowed: str, own_names: tuple[str, ...] = (), full_name: str = "") -> ServedHosts:
    return ServedHosts(allowed, own_names=own_names, find_full_name=lambda: full_name)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "10.0.0.7:80",
        "0.0.0.0:8000",
        "[::1]",
        "[::1]:8000",
        "[2001:db8::1]:8000",
        "[fe80::1%eth0]:8000",
        "localhost",
        "LocalHost:8000",
        "localhost.:8000",
        "app.localhost:8000",
        MACHINE,
        f"{MACHINE.upper()}:8000",
        MACHINE.partition(".")[0],
    ],
)
async def test_addresses_and_own_names_are_served(host: str) -> None:
    await hosts().check(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "evil.example.",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io:8000",
        "evil-localhost",
        f"{MACHINE}.evil.example",
        "evil.example:8000:127.0.0.1",
        "evil.example/127.0.0.1",
        "localhost@evil.example",
        "evil.example#localhost",
        "127.0.0.1, evil.example",
        "[evil.example]",
        "[::1",
        "::1]:80",
        "",
        ".",
        ":8000",
        " ",
    ],
)
async def test_other_names_are_refused(host: str) -> None:
    with pytest.raises(Forbidden, match="allowed_hosts"):
        await hosts("llm.example.com").check(host)


@pytest.mark.parametrize(
    ("allowed", "host", "served"),
    [
        ("llm.example.com", "llm.example.com", True),
        ("llm.example.com", "LLM.example.com:8000", True),
        ("LLM.Example.com", "llm.example.com.:8000", True),
        ("llm.example.com:8000", "llm.example.com:8000", True),
        ("llm.example.com:8000", "llm.example.com:8001", False),
        ("llm.example.com:8000", "llm.example.com", False),
        ("llm.example.com", "other.llm.example.com", False),
        ("*", "evil.example", True),
        ("*", "not a host", True),
    ],
)
def test_allowed_hosts_are_served(allowed: str, host: str, served: bool) -> None:
    assert hosts(allowed).has(host) is served


async def test_names_of_the_node_are_served() -> None:
    await hosts(own_names=("Llm.lan", "")).check("llm.lan:8000")
    await hosts(full_name="Box.example.com").check("box.example.com:8000")


async def test_full_name_is_looked_up_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[float] = []

    def find() -> str:
        lookups.append(time.monotonic())
        return "box.example.com" if len(lookups) > 1 else ""

    served = ServedHosts(find_full_name=find)
    await served.check("127.0.0.1")
    assert not lookups
    for _ in range(10):
        with pytest.raises(Forbidden):
            await served.check("box.example.com")
    assert len(lookups) == 1
    monkeypatch.setattr("llmactors.access.hosts.LOOK_AGAIN_S", 0.0)
    await served.check("box.example.com")
    assert len(lookups) == 2


async def test_slow_name_server_holds_no_request_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmactors.access.hosts.LOOKUP_S", 0.01)

    def find() -> str:
        time.sleep(0.5)
        return "evil.example"

    served = ServedHosts(find_full_name=find)
    with trio.fail_after(0.4), pytest.raises(Forbidden):
        await served.check("evil.example")
