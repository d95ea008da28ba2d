"""Schemathesis sends valid and invalid requests, made from `/openapi.json`, to a running node.

Schemathesis finds no server error, and no status, header, content type or body that the document does not describe.
Besides the values at the limits of each field, it draws a few at random; `just test-random` draws more of them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from llmactors.gateway.routes import ROUTES
from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(170)]

SEED = 20
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
# A deadline that has passed is answered with 504, and Schemathesis cannot know which deadlines have passed.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]
"""


def with_models_that_exist(document: dict[str, Any]) -> dict[str, Any]:
    """Limits the names of models to existing ones; otherwise nearly every request would end with "no such model"."""
    schemas = document["components"]["schemas"]
    schemas["GenerateBody"]["properties"]["model"] = {"enum": ["mock", None]}
    for body in ("ChatBody", "CompletionBody", "ResponseBody"):
        schemas[body]["properties"]["model"] = {"enum": ["mock"]}
    return document


async def schemathesis(node: LocalNode, folder: Path, *options: str) -> str:
    """Runs Schemathesis and returns its report. Fails if Schemathesis has found a violation."""
    document = with_models_that_exist((await node.client.get("/openapi.json")).json())
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "openapi.json"]
    arguments = [f"--url={node.url}", f"--seed={SEED}", f"--checks={','.join(CHECKS)}", "--no-shrink", *options]
    with trio.fail_after(150):
        ran = await trio.run_process(
            [*command, *arguments], capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=folder
        )
    report = ran.stdout.decode()
    assert ran.returncode == 0, report
    return report


async def test_schemathesis_finds_no_violation(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    examples = pytestconfig.getoption("--openapi-examples")
    async with local_node(mock_model("context=32")) as node:
        report = await schemathesis(node, tmp_path, "--phases=coverage,fuzzing", f"--max-examples={examples}")
    assert f"Tested: {len(ROUTES)}" in report
