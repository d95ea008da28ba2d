"""The original design, which llmactors replaces: jobs in a Redis list, a worker with batches, a channel per request.

The design has no lease, no log and no way to resume a stream. `bench.peers.origin.serve` runs all its processes, and
`python -m bench.peers.origin gateway` or `worker` runs one process with the flags of llmactors.
"""
