"""The one place that wires trees. `python -m llmactors tree` prints what it wired.

node       everything in one process
roles      what a gateway and a worker across processes have in common: the ledger on Redis, the node directory
gateway    a gateway node
worker     a worker node
cluster    gateways, workers and a Redis server as child processes of one supervisor
front      the gateway, the limiter, and what keeps API keys up to date
workshop   a backend and a batcher for each model
parts      what all trees have in common
child      a child process as an actor
lifeline   what a child process is started through, so that it dies with its parent
"""
