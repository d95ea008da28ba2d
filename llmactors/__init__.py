"""llmactors: LLM serving by supervised actors on Trio.

A map of the package, lowest layer first; imports point downwards only:

    errors, messages, config    the vocabulary: every exception, every message, every setting
    telemetry                   metrics, logs; handed in where it is needed
    actors                      the actor runtime: mailboxes, supervision, restart. Read actors/SEMANTICS.md first
    redislink                   one pipelined connection to Redis, kept up
    limiter                     what callers may use, and what their requests are charged; the ledger counts by it
    ledger                      requests, leases and token logs: the truth that survives every crash; memory, Redis
    backends                    what makes tokens: the mock, llama.cpp, OpenAI-compatible upstreams, one's own
    batcher                     claims requests for free slots and drives a backend
    nodes                       which processes a cluster has, and what each serves
    keys                        who may call: API keys in a file or in Redis, and what each allows
    gateway                     HTTP and WebSocket
    system                      the one place that wires trees: all in one process, a gateway, a worker, a local cluster
    load                        a load client that is not what it measures
    cli                         python -m llmactors
    testing                     clusters, faults, oracles and checkers; nothing above imports it
"""

__version__ = "0.1.0"
