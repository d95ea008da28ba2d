"""How each proxy among the peers is started in front of upstreams, as its manual says, without a log of requests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from bench.peers.environments import python_of

ROUTER = "vllm-router"
SMG = "smg"
LITELLM = "litellm"
MODEL = "mock"
"""The name of the model at the upstreams and at each proxy."""


@attrs.frozen
class Launch:
    """The command of a proxy, and its variables of the environment."""

    command: Sequence[str]
    environ: Mapping[str, str]


def launch(
    name: str, upstreams: Sequence[str], *, port: int, metrics_port: int, folder: Path, envs: Path | None
) -> Launch:
    """How to start the proxy `name` in front of the URLs `upstreams`. A configuration is written to `folder`.

    Raises:
        RuntimeError: The proxy could not be installed.
    """
    program = str(python_of(name, envs).with_name(name))
    address = ("--host", "127.0.0.1", "--port", str(port))
    if name == LITELLM:
        configuration = folder / "litellm.yaml"
        configuration.write_text(json.dumps(litellm_configuration(upstreams)), encoding="utf-8")
        return Launch((program, "--config", str(configuration), *address), _LITELLM_ENVIRON)
    # smg has a subcommand; the options of both routers have the same names, since one was made from the other.
    command = (program, "launch") if name == SMG else (program,)
    routing = ("--worker-urls", *upstreams, "--policy", "round_robin")
    return Launch((*command, *address, *routing, "--prometheus-port", str(metrics_port), "--log-level", "error"), {})


_LITELLM_ENVIRON = {
    "LITELLM_LOG": "ERROR",
    # The prices of models come from the package, not from the network.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # No server of the benchmark asks for a key.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


def litellm_configuration(upstreams: Sequence[str]) -> Mapping[str, object]:
    """One group of deployments, and a second one of the same upstreams as its fallback.

    LiteLLM continues an answer that broke in its middle only where a fallback is named.
    """
    group, fallback = MODEL, f"{MODEL}-again"
    deployments = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for name in (group, fallback)
        for url in upstreams
    ]
    return {
        "model_list": deployments,
        "router_settings": {"fallbacks": [{group: [fallback]}]},
        "litellm_settings": {"telemetry": False},
    }
