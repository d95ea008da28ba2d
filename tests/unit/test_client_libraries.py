"""The table of the client libraries, and what the table of results shows."""

import ast
import re

from tests.clients.libraries.results import Attempt, Row, attempts_of, known_failures, table
from tests.clients.libraries.table import CLIENTS, FEATURES, HERE, Client
from tests.support.documents import read

_NODE_ATTEMPT = re.compile(r'attempt\("([^"]+)"')
_BOUNDED = re.compile(r"[\w@./-]+(?:\[[\w,-]+\])?(?:>=\d+(?:\.\d+)?,<\d+(?:\.\d+)?|@\^\d+)")


def _features_of(client: Client) -> set[str]:
    """The features that a script tries by name."""
    text = client.path.read_text(encoding="utf-8")
    if client.language == "node":
        return set(_NODE_ATTEMPT.findall(text))
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "attempt"]
    return {str(argument.value) for call in named for argument in call.args if isinstance(argument, ast.Constant)}


def test_each_client_has_a_script_and_bounded_versions() -> None:
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)
    for client in CLIENTS:
        assert client.path.is_file(), client
        assert all(map(_BOUNDED.fullmatch, client.packages)), client


def test_scripts_try_features_of_the_table() -> None:
    tried = {feature for client in CLIENTS for feature in _features_of(client)}
    assert tried <= set(FEATURES)


def test_each_script_belongs_to_a_client() -> None:
    used = {client.path for client in CLIENTS}
    shared = {"report.py", "report.mjs"}
    assert {path for kind in ("python", "node") for path in (HERE / kind).iterdir() if path.is_file()} == used | {
        HERE / ("node" if name.endswith("mjs") else "python") / name for name in shared
    }


def test_document_shows_the_known_failures() -> None:
    assert known_failures() in read("llmactors/gateway/API.md")


def test_only_unexpected_results_are_errors() -> None:
    client = Client(name="c", packages=(), script="s.py", known={"slow": "slow is not served", "gone": "why"})
    lines = 'noise\n{"feature": "plain", "attempt": "one", "error": "", "note": "fast"}\n'
    attempts = [
        *attempts_of(lines),
        Attempt(feature="stream", attempt="slow", error="no"),
        Attempt(feature="stream", attempt="quick"),
        Attempt(feature="tools", attempt="new", error="boom"),
    ]
    row = Row(client, "c 1", attempts)
    assert [row.cell(each) for each in ("plain", "stream", "tools", "schema")] == ["ok", "1 of 2", "FAILS", ""]
    assert row.unexpected() == ["c, tools, new: boom", "c: the known failures gone were not tried"]
    assert "c, plain: fast" in table([row])
    passing = Row(client, "c 1", [Attempt(feature="stream", attempt="slow"), Attempt(feature="plain", attempt="gone")])
    assert len(passing.unexpected()) == 2
