"""The one room that wires supervision trees. `python -m llmactors tree` prints the result.

node            everything in one process
cluster_node    what gateway and worker nodes have in common: the ledger on Redis, the node directory, the drain
gateway_node    a gateway of a cluster
worker_node     a worker of a cluster
gateway_actors  the gateway, the limiter, and the actor that keeps API keys up to date
model_actors    a backend and a batcher for each model
serving_only    model actors over a ledger in memory, without a gateway, to be measured by themselves
wiring          the root of every tree; the ledger's bounds
"""
