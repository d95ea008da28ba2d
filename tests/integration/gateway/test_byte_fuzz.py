"""Whatever bytes come, the server answers no 500, logs no traceback, and serves others as before."""

import httpx
import pytest

from llmactors.testing.node import NodeProcess
from tests.conftest import Figures
from tests.support.byte_fuzzer import fuzz

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]


def test_no_bytes_bring_out_a_server_error(request: pytest.FixtureRequest, figures: Figures) -> None:
    """`--fuzz-connections N` and `--fuzz-seed SEED` choose how many mutated requests are sent, and which."""
    connections, seed = request.config.getoption("--fuzz-connections"), request.config.getoption("--fuzz-seed")
    with NodeProcess("--model", "mock", "--bind", "127.0.0.1:0") as node:
        url = node.wait_ready()
        result = fuzz(int(url.rpartition(":")[2]), connections=connections, seed=seed)
        answer = httpx.post(f"{url}/v1/generate", json={"prompt": "after", "max_tokens": 3})
        assert node.stop() == 0
        tracebacks = node.tracebacks()
    figures("byte fuzzer", f"seed {seed}", f"{result.connections} connections, statuses {dict(result.statuses)}")
    assert result.server_errors == []
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert tracebacks == []
    assert result.statuses[0] < connections / 2
