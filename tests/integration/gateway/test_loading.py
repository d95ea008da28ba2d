"""A node answers health probes while its models load, and a gateway that crashes again and again unloads no model."""

import json
import threading

import attrs
import httpx
import pytest
import structlog.testing
import trio

from llmactors.backends.base import Backend
from llmactors.backends.build import OnDemand, ServedModel
from llmactors.backends.models.download import Progress
from llmactors.cli.mistakes import operator_error
from llmactors.config import Settings
from llmactors.errors import ModelError
from llmactors.system.node import Node
from llmactors.testing.node import local_node, mock_model, wait_until

pytestmark = pytest.mark.integration


async def test_probes_have_an_answer_while_a_model_loads() -> None:
    loaded = trio.Event()
    mock = mock_model()

    def make() -> Backend:
        backend = mock.make()
        start = backend.start

        async def slow_start() -> None:
            await loaded.wait()
            await start()

        backend.start = slow_start  # type: ignore[method-assign]
        return backend

    node = Node(Settings(bind="127.0.0.1:0"), [ServedModel("mock", make)])
    async with trio.open_nursery() as nursery:
        started = trio.Event()

        async def run() -> None:
            await nursery.start(node.run)
            started.set()

        nursery.start_soon(run)
        async with httpx.AsyncClient(base_url=node.url) as client:
            with trio.fail_after(10):
                await wait_until(lambda: node.tree.actor("node/http/gateway").state == "running")
                assert (await client.get("/livez")).status_code == 200
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["problems"]) == (503, {"model:mock": "starting"})
            refused = await client.post("/v1/generate", content=json.dumps({"prompt": "hi"}))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert not started.is_set()
            loaded.set()
            await started.wait()
            await wait_until(lambda: not node.directory.problems())
            assert (await client.get("/readyz")).status_code == 200
        nursery.start_soon(node.shut_down)


async def test_probes_say_that_a_model_is_downloaded() -> None:
    may_end = threading.Event()

    def fetch(progress: Progress) -> None:
        progress(0, None)
        progress(1_000_000, 5_000_000)
        may_end.wait(20)

    node = Node(Settings(bind="127.0.0.1:0"), [ServedModel("mock", mock_model().make, fetch)])
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            async with httpx.AsyncClient(base_url=node.url) as client:
                with trio.fail_after(10):
                    await wait_until(lambda: node.tree.actor("node/http/gateway").state == "running")
                    await wait_until(lambda: "downloading" in str(node.directory.problems()))
                    ready = await client.get("/readyz")
                    problems = {"model:mock": "starting (downloading 1 of 5 MB)"}
                    assert (ready.status_code, ready.json()["problems"]) == (503, problems)
                    assert (await client.get("/livez")).status_code == 200
                    may_end.set()
                    await wait_until(lambda: not node.directory.problems())
                assert (await client.post("/v1/generate", json={"prompt": "hi"})).status_code == 200
            nursery.start_soon(node.shut_down)
    told = [line for line in lines if "download" in line["event"]]
    assert [line["event"] for line in told] == ["the model is being downloaded", "the model was downloaded"]
    assert {line["model"] for line in told} == {"mock"}


async def test_shutdown_does_not_wait_for_a_download() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def fetch(progress: Progress) -> None:
        begun.set()
        may_end.wait(20)

    node = Node(Settings(bind="127.0.0.1:0"), [ServedModel("mock", mock_model().make, fetch)])
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            await wait_until(begun.is_set)
            await node.shut_down()
    may_end.set()


async def test_failed_download_ends_the_node() -> None:
    def fetch(progress: Progress) -> None:
        raise ModelError("the disk is full")

    node = Node(Settings(bind="127.0.0.1:0"), [ServedModel("mock", mock_model().make, fetch)])
    with trio.fail_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await node.run()
    assert str(operator_error(caught.value)) == "the disk is full"


async def test_crashing_gateway_unloads_no_model() -> None:
    async with local_node(mock_model()) as node:
        before = node.incarnations()
        for crash in range(1, 9):
            await node.wait_running("node/http/gateway", crash)
            node.crash("node/http/gateway")
        await node.wait_running("node/http/gateway", 9)
        after = node.incarnations()
        assert after.pop("node/http/gateway") == 9
        before.pop("node/http/gateway")
        assert after == before


async def test_model_on_demand_is_downloaded_for_its_first_request() -> None:
    may_end, there = threading.Event(), threading.Event()

    def fetch(progress: Progress) -> None:
        if not there.is_set():
            progress(1_000_000, 5_000_000)
            may_end.wait(20)
            there.set()

    model = attrs.evolve(
        mock_model(),
        fetch=fetch,
        measure=lambda: 5 if there.is_set() else None,
        on_demand=OnDemand(capabilities=mock_model().make().capabilities),
    )
    async with local_node(model) as node, trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await node.client.post("/v1/generate", json={"prompt": "hi"}))

        nursery.start_soon(ask)
        shown: dict[str, object] = {}
        with trio.fail_after(10):
            while shown.get("detail") != "downloading 1 of 5 MB":
                [shown] = (await node.client.get("/v1/models")).json()["data"]
                await trio.sleep(0.02)
            assert shown["state"] == "loading"
            assert (await node.client.get("/readyz")).status_code == 200
            assert not answers
            may_end.set()
            await wait_until(lambda: bool(answers))
        assert answers[0].status_code == 200
