"""The one place that wires trees. `python -m llmactors tree` prints what it wired.

node       everything in one process
roles      what a gateway and a worker across processes have in common: the ledger on Redis, the node directory
gateway    a gateway node
worker     a worker node
cluster    gateways, workers and a Redis server as child processes of one supervisor
parts      the actors and specs that the above are made of
child      a child process as an actor
lifeline   what a child process is started through, so that it dies with its parent
"""
