"""Wiring: the only room that builds the objects of all other rooms and puts the actors into trees.

node             everything in one process, with the ledger in memory
gateway_node     a gateway process of a cluster
worker_node      a worker process of a cluster
cluster_node     what gateway_node and worker_node have in common
gateway_actors   the gateway, the keys, and the settings that they take
model_actors     a backend and a batcher for each model
standby          where a gateway waits, ready to serve, until its keeper makes it the active one
calm_collector   how often the garbage collector of a process that serves runs
history_sampler  ends the steps of a node's history
drills           breaks parts of a node on purpose
node_reports     what a node says of itself in its record
serving_only     batchers and backends without a gateway, for measurements
ledger_shards    the ledger of a cluster, on one server or on several
operator_access  a cluster's ledger, node directory and keys, for the commands of operators
task_actor       an actor that runs one long-lived task
reloading        reloads the settings of a running node
running_clock    the clock of a node's event loop
tracing          the export of traces
wiring           the root of every tree, and the ledger's settings
"""
