"""The routes with which operators drain a node and reload its settings, in a single process."""

import pytest
import structlog

from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.testing.node import local_node, wait_until

pytestmark = pytest.mark.integration

BODY = {"prompt": "hi", "max_tokens": 3}
NODE = "/v1/operator/nodes/node"


async def test_change_by_an_operator_is_logged() -> None:
    with structlog.testing.capture_logs() as lines:
        async with local_node() as node:
            await node.client.post(f"{NODE}/drain", json={})
            await node.client.get("/v1/operator/nodes")
            await node.client.delete("/v1/operator/dead-letters/none")
    found = [line for line in lines if line["event"] == "an operator asked for a change"]
    assert [(line["method"], line["path"], line["status"]) for line in found] == [
        ("POST", f"{NODE}/drain", 200),
        ("DELETE", "/v1/operator/dead-letters/none", 404),
    ]
    assert {line["client"] for line in found} == {"127.0.0.1"}


async def test_drained_process_refuses_until_uncordon() -> None:
    async with local_node() as node:
        drained = (await node.client.post(f"{NODE}/drain", json={})).json()
        assert (drained["node"], drained["cordoned"], drained["until_unix_s"]) == ("node", True, None)
        refused = await node.client.post("/v1/generate", json=BODY)
        assert (refused.status_code, "an operator has drained" in refused.json()["error"]["message"]) == (503, True)
        assert "`uncordon node` ends that" in (await node.client.get("/readyz")).json()["problems"]["gateway"]
        [row] = (await node.client.get("/v1/operator/nodes")).json()["nodes"]
        assert (row["draining"], row["cordoned"], row["cordoned_until_unix_s"]) == (True, True, None)
        assert (await node.client.post(f"{NODE}/uncordon", json={})).json()["cordoned"] is False
        assert (await node.client.post("/v1/generate", json=BODY)).status_code == 200
        hour = (await node.client.post(f"{NODE}/drain", json={"for_s": 3600})).json()
        [row] = (await node.client.get("/v1/operator/nodes")).json()["nodes"]
        assert row["cordoned_until_unix_s"] == hour["until_unix_s"]
        ending = (await node.client.post(f"{NODE}/drain", json={"for_s": 0.05})).json()
        assert ending["until_unix_s"] == pytest.approx(ending["since_unix_s"] + 0.05, abs=0.001)
        await wait_until(lambda: not node.node.record.cordoned)
        assert (await node.client.get("/readyz")).status_code == 200
        assert (await node.client.post("/v1/operator/nodes/nobody/drain", json={})).status_code == 404
        assert (await node.client.post(f"{NODE}/drain", json={"for_s": -1})).status_code == 400


async def test_reload_answers_with_what_changed() -> None:
    async with local_node() as node:
        refused = await node.client.post("/v1/operator/reload", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "INVALID_REQUEST")
        node.node.live.reread = lambda: Settings(rate_limit="1/h", drain_s=7.0, bind="127.0.0.1:0")
        answer = (await node.client.post("/v1/operator/reload", json={})).json()
        assert answer["changed"] == {"rate_limit": [None, "1/h"]}
        assert "drain_s" in answer["fixed"]
        statuses = [(await node.client.post("/v1/generate", json=BODY)).status_code for _ in range(2)]
        assert statuses == [200, 429]

        def broken() -> Settings:
            raise ConfigError("`rate_limit` must be COUNT/PERIOD")

        node.node.live.reread = broken
        assert "COUNT/PERIOD" in (await node.client.post("/v1/operator/reload", json={})).json()["error"]["message"]
