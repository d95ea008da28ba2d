"""The addresses of several servers in one text. Pure."""

import re

from llmactors.errors import ConfigError

_BETWEEN = re.compile(r"[,\s]+(?=[a-z]+://)")
"""A comma before a scheme. A comma between two hosts of one URL is no such comma."""
_SHARDS = re.compile(r"[?&]shards=([^&]*)")
_CLUSTER_SHARDS = 3
_MOST = 256


def is_cluster(url: str) -> bool:
    """Whether the URL is that of a Redis Cluster."""
    return url.startswith("cluster://")


def split_urls(text: str) -> list[str]:
    """The URL of each shard in a text in which commas or spaces separate URLs. The URL of a Redis Cluster is that of
    all its shards, whose number is its option `shards`.

    Raises `ConfigError` for a URL that comes twice, a Redis Cluster beside others, and a wrong number of shards.
    """
    urls = _BETWEEN.split(text.strip())
    if len(set(urls)) < len(urls):
        raise ConfigError("a Redis URL comes twice: each shard of the ledger needs a server of its own")
    if len(urls) > 1 and any(map(is_cluster, urls)):
        raise ConfigError("a Redis Cluster must be the only Redis URL")
    count = _shards_of(urls[0]) if is_cluster(urls[0]) else len(urls)
    if not 1 <= count <= _MOST:
        raise ConfigError(f"a ledger has 1 to {_MOST} shards")
    return urls * count if is_cluster(urls[0]) else urls


def _shards_of(url: str) -> int:
    found = _SHARDS.search(url)
    if found is None:
        return _CLUSTER_SHARDS
    if not found[1].isdecimal():
        raise ConfigError(f"option `shards` of the Redis URL must be a number from 1 to {_MOST}")
    return int(found[1])
