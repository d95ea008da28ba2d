"""The addresses of the nodes of a local cluster follow each other."""

import pytest

from llmactors.cluster.local_cluster import following
from llmactors.errors import BindError


@pytest.mark.parametrize(("bind", "count"), [("127.0.0.1:65535", 2), ("127.0.0.1:65000", 100_000)])
def test_addresses_end_with_the_last_port(bind: str, count: int) -> None:
    with pytest.raises(BindError, match=rf"there are not {count} ports from {bind} on: the last port is 65535"):
        following(bind, count, strict=True)
