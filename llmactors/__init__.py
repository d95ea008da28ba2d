"""llmactors: LLM serving by supervised actors on Trio.

A map of the package, lowest layer first; imports point downwards only:

    errors, messages, config    the vocabulary: every exception, every message, every setting
    actors                      the actor runtime: mailboxes, supervision, restart. Read actors/SEMANTICS.md first
    telemetry                   metrics and logs, handed in where they are needed
    http                        an HTTP/1.1 and WebSocket server, and a streaming client
    redislink                   one pipelined connection to Redis, kept up
    limiter                     what callers may use, and what their requests are charged
    ledger                      requests, leases and token logs: in memory, or on Redis
    backends                    what makes tokens: the mock, llama.cpp, OpenAI-compatible upstreams, custom ones
    batcher                     claims requests for free slots and drives a backend
    cluster                     the node directory, child processes, the local cluster
    access                      who may call: API keys, tickets, origins
    gateway                     the HTTP API: routes, admission, streaming
    system                      the one room that wires trees: one process, a gateway node, a worker node
    load                        a load client that shares nothing with what it measures
    cli                         python -m llmactors
    testing                     clusters, faults, contract suites and checkers; nothing above imports it
"""

__version__ = "0.1.0"
