"""compose.yaml fits the program: its variables, its files, its times, and who can reach its ports."""

from typing import Any

import attrs
import msgspec
import pytest

from llmactors.config import Settings
from tests.support.documents import PROJECT, read

SERVICES: dict[str, dict[str, Any]] = msgspec.yaml.decode(read("compose.yaml"))["services"]
NODES = [name for name, service in SERVICES.items() if "build" in service]
OBSERVED = {"grafana", "jaeger"}
END_S = 10
"""How long a process may take to end after its drain."""


def test_profile_adds_what_one_looks_with() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["observability"]} == OBSERVED


@pytest.mark.parametrize("name", NODES)
def test_variables_of_nodes_are_settings(name: str) -> None:
    named = {key.removeprefix("LLMACTORS_").lower() for key in SERVICES[name]["environment"] if "LLMACTORS" in key}
    assert named <= set(attrs.fields_dict(Settings))


@pytest.mark.parametrize("name", NODES)
def test_engine_waits_longer_than_the_drain(name: str) -> None:
    service = SERVICES[name]
    grace_s = float(service["stop_grace_period"].removesuffix("s"))
    assert grace_s >= float(service["environment"]["LLMACTORS_DRAIN_S"]) + END_S


@pytest.mark.parametrize("name", SERVICES)
def test_services_run_without_rights_for_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_mounted_files_exist() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert all((PROJECT / path).exists() for path in mounted if path.startswith("."))
