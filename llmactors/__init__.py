"""llmactors: LLM serving by supervised actors on Trio.

A map of the package, lowest layer first; imports point downwards only:

    errors, messages, config    the vocabulary: every exception, every message, every setting
    telemetry                   metrics, logs; handed in where it is needed
    actors                      the actor runtime: mailboxes, supervision, restart. Read actors/SEMANTICS.md first
    ledger                      requests, leases and token logs: the truth that survives every crash
    backends                    what makes tokens: the mock, llama.cpp
    batcher, limiter            claims requests for free slots and drives a backend; admits or refuses callers
    gateway                     HTTP and WebSocket
    system                      the one place that wires the tree
    cli                         python -m llmactors
    testing                     fault injectors and oracles; nothing above imports it
"""

__version__ = "0.1.0"
