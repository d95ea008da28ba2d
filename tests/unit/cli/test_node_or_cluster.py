"""Which node or cluster a command asks, where several sources name one."""

import pytest

from llmactors.cli.client import node_or_cluster
from llmactors.config import configure

REDIS = "redis://127.0.0.1:6379"
NODE = "http://10.0.0.1:8000"


@pytest.mark.parametrize(
    ("flags", "environ", "url", "redis", "node"),
    [
        ({}, {}, None, None, "http://127.0.0.1:8000"),
        ({}, {}, NODE, None, NODE),
        ({"redis": REDIS}, {}, None, REDIS, "http://127.0.0.1:8000"),
        ({}, {"LLMACTORS_REDIS": REDIS}, None, REDIS, "http://127.0.0.1:8000"),
        ({}, {"LLMACTORS_REDIS": REDIS, "LLMACTORS_KEYS": "redis"}, NODE, None, NODE),
        ({"redis": REDIS}, {}, NODE, REDIS, NODE),
    ],
)
def test_given_url_goes_before_a_variable(
    flags: dict[str, object], environ: dict[str, str], url: str | None, redis: str | None, node: str
) -> None:
    settings, asked = node_or_cluster(configure(flags, environ=environ), url)
    assert (settings.redis, asked) == (redis, node)
