"""llmactors: LLM serving by supervised actors on Trio.

The public names are those of `__all__`, and `llmactors.errors` has the exceptions; EMBEDDING.md shows how to use them.
A public name is imported when it is used first, so that `import llmactors` and the command line start quickly.

A map of the package, lowest layer first. Imports point downwards only; ARCHITECTURE.md describes the rooms.

    errors                 every error that a client or an operator may see, with its code
    actors                 the actor runtime: mailboxes, supervision, restart. Read actors/SEMANTICS.md first
    keeper                 the parent process of a gateway, which holds the clients' connections. It imports nothing
    config                 every setting, each declared once
    prices                 what tokens cost, and amounts of money
    console                the files of the web console
    messages               what all parts share: a request, a token, the end of an answer
    http                   an HTTP/1.1 and WebSocket server, and a streaming client, which know no model
    grammar                what an answer may look like: JSON schemas, grammars, and what is left of one after a text
    telemetry              metrics, logs, and the watch on the event loop
    redislink              one pipelined connection to Redis
    limiter                how much a caller may use, and what a request is charged
    ledger                 requests, leases and token logs: in memory, or on Redis
    tool_calls             calls of tools and reasoning in the text of an answer
    backends               what makes tokens: the mock, llama.cpp, OpenAI-compatible upstreams, a user's own
    access                 who may call: API keys, tickets, origins
    model_pool             loads and unloads models on demand, within the memory of a worker
    batcher                claims requests for free slots, drives a backend, appends tokens
    cluster                the node directory, child processes, the local cluster
    gateway                the HTTP API: routes, admission, streaming
    system                 wires the supervision trees: one process, a gateway node, a worker node
    load                   a load client, which shares nothing with the server that it measures
    cli                    python -m llmactors
    testing                clusters, faults, contract suites and checkers; no other room imports it
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmactors.backends.base import (
        Backend,
        Batching,
        Capabilities,
        Job,
        Output,
        StepwiseBackend,
        StreamingBackend,
        Takeover,
    )
    from llmactors.backends.build import ServedModel, serve_models
    from llmactors.backends.custom.batch import BatchBackend, BatchSettings
    from llmactors.config import Settings
    from llmactors.errors import LlmactorsError
    from llmactors.messages import ChatMessage, FinishReason, GenerateRequest, TokenDelta
    from llmactors.system.node import Node
    from llmactors.system.running_clock import RunningClock
    from llmactors.telemetry.logs import configure_logging

__all__ = [
    "Backend",
    "BatchBackend",
    "BatchSettings",
    "Batching",
    "Capabilities",
    "ChatMessage",
    "FinishReason",
    "GenerateRequest",
    "Job",
    "LlmactorsError",
    "Node",
    "Output",
    "RunningClock",
    "ServedModel",
    "Settings",
    "StepwiseBackend",
    "StreamingBackend",
    "Takeover",
    "TokenDelta",
    "configure_logging",
    "serve_models",
]

__version__ = "0.2.0"

if not TYPE_CHECKING:  # a type checker takes the imports above, and refuses names that are not there
    _HOMES = {
        "llmactors.backends.base": (
            "Backend",
            "Batching",
            "Capabilities",
            "Job",
            "Output",
            "StepwiseBackend",
            "StreamingBackend",
            "Takeover",
        ),
        "llmactors.backends.build": ("ServedModel", "serve_models"),
        "llmactors.backends.custom.batch": ("BatchBackend", "BatchSettings"),
        "llmactors.config": ("Settings",),
        "llmactors.errors": ("LlmactorsError",),
        "llmactors.messages": ("ChatMessage", "FinishReason", "GenerateRequest", "TokenDelta"),
        "llmactors.system.node": ("Node",),
        "llmactors.system.running_clock": ("RunningClock",),
        "llmactors.telemetry.logs": ("configure_logging",),
    }

    def __getattr__(name: str) -> object:
        """Imports a public name when it is used first."""
        module = next((module for module, names in _HOMES.items() if name in names), None)
        if module is None:
            raise AttributeError(f"module 'llmactors' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(module), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
