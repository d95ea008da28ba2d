"""The files of Kubernetes fit the program: settings, probes, times, names and rules.

`just test-kubernetes` validates the files against the schemas.
"""

import re
from typing import Any

import attrs
import msgspec
import pytest

from llmactors.config import Settings
from llmactors.gateway.routes import ROUTES
from tests.support.documents import PROJECT, read

FOLDER = "ops/kubernetes"
WORKLOADS = {"Deployment", "StatefulSet"}
END_S = 10
"""How long a process may take to end after its drain."""


def objects(file: str) -> list[dict[str, Any]]:
    return [msgspec.yaml.decode(text) for text in read(f"{FOLDER}/{file}").split("\n---\n")]


BASE = [each for name in ("gateway", "worker", "valkey", "network-policies") for each in objects(f"base/{name}.yaml")]
PODS = {each["metadata"]["name"]: each["spec"]["template"] for each in BASE if each["kind"] in WORKLOADS}


def container(name: str) -> dict[str, Any]:
    [found] = PODS[name]["spec"]["containers"]
    return dict(found)


def variables(name: str) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container(name)["env"]}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def test_variables_are_settings() -> None:
    files = [path.read_text(encoding="utf-8") for path in (PROJECT / FOLDER).rglob("*") if path.is_file()]
    named = {match[1].lower() for text in files for match in re.finditer(r"\bLLMACTORS_([A-Z_]+)\b", text)}
    assert named <= set(attrs.fields_dict(Settings))


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_kubernetes_waits_longer_than_the_drain(role: str) -> None:
    before = container(role).get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
    paused = float(before["exec"]["command"][1])
    drain = float(variables(role)["LLMACTORS_DRAIN_S"])
    assert PODS[role]["spec"]["terminationGracePeriodSeconds"] >= paused + drain + END_S


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_probes_ask_open_routes_of_the_named_port(role: str) -> None:
    """A pod that waits for Redis, or downloads a model, is alive and not ready."""
    found = container(role)
    paths = {kind: found[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert set(paths.values()) <= {route.path for route in ROUTES if route.is_open}
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert {found[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} == set(ports)
    assert PODS[role]["metadata"]["annotations"]["prometheus.io/port"] == str(*ports.values())


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_nodes_are_named_after_their_pods(role: str) -> None:
    [name] = [each for each in container(role)["env"] if each["name"] == "LLMACTORS_NAME"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


@pytest.mark.parametrize("name", PODS)
def test_pods_keep_the_rules_of_level_restricted(name: str) -> None:
    pod, inside = PODS[name]["spec"]["securityContext"], container(name)["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside["allowPrivilegeEscalation"] is False
    assert inside["readOnlyRootFilesystem"]
    assert inside["capabilities"] == {"drop": ["ALL"]}
    assert PODS[name]["spec"]["automountServiceAccountToken"] is False


def test_selectors_find_pods() -> None:
    """Each Service, budget, policy and workload selects pods that exist."""
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    for each in BASE:
        spec = each["spec"]
        selector = spec.get("podSelector") or spec.get("selector") or {}
        chosen = selector.get("matchLabels", selector)
        assert any(selects(chosen, found) for found in labels), each["metadata"]["name"]


def test_policies_let_nodes_reach_the_ledger() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in BASE if each["kind"] == "NetworkPolicy"}
    [into] = policies["valkey"]["ingress"]
    [redis] = [port["containerPort"] for port in container("valkey")["ports"]]
    assert into["ports"] == [{"port": redis}]
    for role in ("gateway", "worker"):
        # The overlay `external-redis` replaces the first rule.
        first = policies[role]["egress"][0]
        assert first["ports"] == [{"port": redis}]
        assert selects(first["to"][0]["podSelector"]["matchLabels"], PODS["valkey"]["metadata"]["labels"])
        assert selects(into["from"][0]["podSelector"]["matchLabels"], PODS[role]["metadata"]["labels"])


def test_ledger_keeps_what_it_has_acknowledged() -> None:
    text = " ".join(container("valkey")["args"])
    assert "--appendonly yes --appendfsync always" in text
    assert "--maxmemory-policy noeviction" in text


def test_autoscaler_asks_for_recording_rules() -> None:
    [scaled] = objects("components/autoscaling/scaled-object.yaml")
    rules = msgspec.yaml.decode(read("ops/prometheus/rules/recording.yml"))
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    queries = {trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]}
    assert queries == {name for name in recorded if name.startswith("cluster:llmactors_workers_wanted:")}
    target = scaled["spec"]["scaleTargetRef"]
    assert any((each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"]) for each in BASE)
