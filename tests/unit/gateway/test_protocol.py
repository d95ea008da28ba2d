"""The edges of the protocol machines that need no socket."""

import pytest

from llmactors.gateway.protocol import _origin_form


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"/v1/tree", b"/v1/tree"),
        (b"/v1/tree?x=1", b"/v1/tree?x=1"),
        (b"http://host:80/v1/streams/x?after=3", b"/v1/streams/x?after=3"),
        (b"HTTP://host", b"/"),
        (b"http://host?x", b"/?x"),
        (b"/a?u=http://b/c", b"/a?u=http://b/c"),
        (b"//host/path", b"//host/path"),
        (b"*", b"*"),
        (b"host:443", b"host:443"),
        (b"http://[::1/x", b"/x"),
    ],
)
def test_target_that_names_the_server_is_read_as_its_path(target: bytes, origin: bytes) -> None:
    assert _origin_form(target) == origin
