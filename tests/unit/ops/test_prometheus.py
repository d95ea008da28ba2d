"""The rules and the dashboard: promtool's tests pass, all names exist, and each alert has an entry of the runbook."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from ops.grafana.dashboard import FILE, ROWS, text
from tests.support.documents import PROJECT, anchors, read
from tests.support.shown_metrics import shown_metrics

FOLDER = PROJECT / "ops" / "prometheus"
RUNBOOK = "ops/RUNBOOK.md"
OWN = re.compile(r"\b(?:llm_gateway|llm_worker|llmactors|process)_[a-z0-9_]+\b")
RECORDED = re.compile(r"\b\w+:\w+:\w+\b")


def rules() -> list[dict[str, Any]]:
    files = [msgspec.yaml.decode(path.read_bytes()) for path in sorted((FOLDER / "rules").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDS = {rule["record"] for rule in rules() if "record" in rule}


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install -y prometheus")
    files = [str(path) for path in sorted((FOLDER / arguments[-1]).glob("*.yml"))]
    command: Sequence[str] = ["promtool", *arguments[:-1], *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "config", ".")


def test_alerts_and_recording_rules_pass_their_tests() -> None:
    promtool("test", "rules", "tests")


def test_each_alert_fires_in_a_test() -> None:
    tests = msgspec.yaml.decode((FOLDER / "tests" / "alerts.yml").read_bytes())["tests"]
    fired = {
        match[1]
        for test in tests
        for asked in test["promql_expr_test"]
        for sample in asked.get("exp_samples", ())
        for match in re.finditer(r'alertname="(\w+)"', sample["labels"])
    }
    assert fired == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_leads_to_its_entry_of_the_runbook(rule: dict[str, Any]) -> None:
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (document, anchor) == (RUNBOOK, rule["alert"].lower())
    assert anchor in anchors(RUNBOOK)
    _, _, after = read(RUNBOOK).partition(f"\n### {rule['alert']}\n")
    entry = after.split("\n##", 1)[0]
    assert all(f"**{part}:**" in entry for part in ("Means", "See", "Do"))
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")


def test_runbook_has_no_entry_without_an_alert() -> None:
    assert set(re.findall(r"^### (\w+)$", read(RUNBOOK), re.MULTILINE)) == {rule["alert"] for rule in ALERTS}


def test_rules_ask_for_records_that_exist() -> None:
    asked = {name for rule in rules() for name in RECORDED.findall(rule["expr"])}
    assert asked <= RECORDS


def exposed() -> set[str]:
    """The names of all series that a node may show."""
    found = set()
    for name, kind in shown_metrics().items():
        found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return found


def test_rules_ask_for_metrics_that_exist() -> None:
    asked = {name for rule in rules() for name in OWN.findall(RECORDED.sub("", rule["expr"]))}
    assert asked <= exposed()


def test_metrics_in_the_tests_of_the_rules_exist() -> None:
    """A test with a name that no node shows would say nothing of a real cluster."""
    texts = [path.read_text(encoding="utf-8") for path in (FOLDER / "tests").glob("*.yml")]
    asked = {name for text in texts for name in re.findall(r"\{series: '(\w+)\{", text)}
    assert asked - {"up"} <= exposed()


def test_dashboard_asks_for_metrics_and_records_that_exist() -> None:
    exprs = [query.expr for row in ROWS for panel in row.panels for query in panel.queries]
    assert {name for expr in exprs for name in RECORDED.findall(expr)} <= RECORDS
    assert {name for expr in exprs for name in OWN.findall(RECORDED.sub("", expr))} <= exposed()


def test_dashboard_is_made_of_its_panels() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "run `just dashboard`"


def test_panels_that_the_runbook_names_exist() -> None:
    titles = {panel.title for row in ROWS for panel in row.panels}
    sentences = re.findall(r"\bpanels? ([^.:;]*)", read(RUNBOOK).replace("\n", " "))
    assert {name for sentence in sentences for name in re.findall(r'"([^"]+)"', sentence)} <= titles
