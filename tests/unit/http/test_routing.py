"""A table of routes: which entry a path and a method lead to."""

import attrs
import pytest

from llmactors.http.routing import Router


@attrs.frozen
class Entry:
    method: str
    path: str
    head: bool = True


STREAM = Entry("GET", "/streams/{id}", head=False)
CANCEL = Entry("DELETE", "/streams/{id}")
LIST = Entry("GET", "/models")
MODEL = Entry("GET", "/models/{model:path}")
STOP = Entry("POST", "/streams/{id}/stop")
SELF = Entry("GET", "/streams/self")
ROUTER = Router([STREAM, CANCEL, LIST, MODEL, STOP, SELF])


@pytest.mark.parametrize(
    ("path", "method", "entry", "parameters"),
    [
        ("/models", "GET", LIST, {}),
        ("/models", "HEAD", LIST, {}),
        ("/models/a/b.gguf", "GET", MODEL, {"model": "a/b.gguf"}),
        ("/models/", "GET", MODEL, {"model": ""}),
        ("/models/a\nb", "GET", MODEL, {"model": "a\nb"}),
        ("/streams/x", "GET", STREAM, {"id": "x"}),
        ("/streams/x", "DELETE", CANCEL, {"id": "x"}),
        ("/streams/x", "HEAD", None, {"id": "x"}),
        ("/streams/x", "get", None, {"id": "x"}),
        ("/streams/x/stop", "POST", STOP, {"id": "x"}),
        ("/streams/self", "GET", SELF, {}),
    ],
)
def test_path_and_method_lead_to_an_entry(
    path: str, method: str, entry: Entry | None, parameters: dict[str, str]
) -> None:
    found = ROUTER.find(path)
    assert found is not None
    assert found[0].routes.get(method) is entry
    assert found[1] == parameters


@pytest.mark.parametrize(
    "path", ["/", "", "/streams", "/streams/", "/streams/x/y", "/streams/x/stop/", "//models", "*"]
)
def test_other_paths_lead_nowhere(path: str) -> None:
    assert ROUTER.find(path) is None


def test_allowed_methods_of_a_path() -> None:
    streams, models = ROUTER.find("/streams/x"), ROUTER.find("/models")
    assert streams is not None
    assert models is not None
    assert set(streams[0].allowed) == {"GET", "DELETE", "OPTIONS"}
    assert set(models[0].allowed) == {"GET", "HEAD", "OPTIONS"}


def test_two_entries_of_one_path_and_method_are_refused() -> None:
    with pytest.raises(ValueError, match="two routes serve GET /models"):
        Router([LIST, Entry("GET", "/models")])
