"""Fixtures of the gateway's tests: a check that nothing is left behind, and tenants with keys."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import psutil
import pytest
import trio

from llmactors.access.keys.file import write_keys
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import NewKey, new_key
from llmactors.backends.mock.oracle import mock_text
from llmactors.limiter import Limits
from llmactors.messages import GenerateRequest
from llmactors.testing.node import LocalNode, wait_until


def _tasks() -> Counter[str]:
    """The running tasks of this event loop, by name."""
    root = trio.lowlevel.current_root_task()
    found: Counter[str] = Counter()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        found[task.name] += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@contextlib.asynccontextmanager
async def _nothing_left(node: LocalNode) -> AsyncIterator[None]:
    async def good_request() -> None:
        response = await node.client.post("/v1/generate", json={"prompt": "still there", "max_tokens": 2})
        expected = mock_text(GenerateRequest(id="", model="mock", prompt="still there", max_tokens=2))
        assert (response.status_code, response.json()["text"]) == (200, expected)

    process = psutil.Process()
    await good_request()
    before = (_tasks(), process.num_fds())
    yield
    await wait_until(lambda: "0 queued, 0 running" in repr(node.node.ledger))
    await good_request()
    try:
        await wait_until(lambda: (_tasks(), process.num_fds()) == before)
    except trio.TooSlowError:
        more, less = _tasks() - before[0], before[0] - _tasks()
        raise AssertionError(f"left behind: {more}, missing: {less}, fds: {process.num_fds() - before[1]}") from None
    metrics = (await node.client.get("/metrics")).text
    assert "llm_gateway_inflight_requests 0.0" in metrics


@pytest.fixture
def nothing_left() -> Callable[[LocalNode], AbstractAsyncContextManager[None]]:
    """Yields a context manager. After its block the node must serve a request, and have no more tasks, files or running
    requests than before the block.
    """
    return _nothing_left


@attrs.frozen
class Tenants:
    """A key file to which a test adds tenants."""

    path: Path
    _keys: dict[str, NewKey] = attrs.field(factory=dict)
    _limits: dict[str, Limits] = attrs.field(factory=dict)

    def add(self, *names: str, limits: Limits | None = None) -> None:
        """Adds tenants by name, each with a key."""
        self._keys.update({name: new_key() for name in names})
        self._limits.update({name: limits or Limits() for name in names})
        self._write()

    def limit(self, name: str, limits: Limits) -> None:
        """Gives a tenant other limits."""
        self._limits[name] = limits
        self._write()

    @property
    def ids(self) -> dict[str, str]:
        """The id of each tenant's key."""
        return {name: key.id for name, key in self._keys.items()}

    def _write(self) -> None:
        records = [
            KeyRecord(id=key.id, tenant=tenant, hash=key.digest, created=1.0, limits=self._limits[tenant])
            for tenant, key in self._keys.items()
        ]
        write_keys(self.path, records)

    def headers(self, name: str) -> dict[str, str]:
        """The request headers with the key of a tenant."""
        return {"Authorization": f"Bearer {self._keys[name].text}"}


@pytest.fixture
def tenants(tmp_path: Path) -> Tenants:
    """The key file of a node that is started with `keys=str(tenants.path)`."""
    return Tenants(tmp_path / "tenants.json")
