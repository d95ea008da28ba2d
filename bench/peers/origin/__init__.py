"""The design that llmactors replaces, rebuilt: a job in a Redis list, a worker that batches, a channel per request.

What it lacks it lacks by design: no lease, no log, no way to follow a stream again. A start script, `serve`, runs it
whole; `python -m bench.peers.origin gateway|worker` runs its processes one by one, with the flags of llmactors' own.
"""
