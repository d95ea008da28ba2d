"""The processes of a cluster: which there are, how each is, and how they are started.

The node directory, in Redis:

node_record     what a node publishes about itself
process_id      identifies the process of a node, so that another process of the same machine can tell whether it lives
node_store      the records in Redis; the record of a silent node expires
registration    publishes a node's record every second, and hears of a drain
watcher         reads all records every second
models          what all workers together serve; pure

Child processes:

child           a child process as an actor
parent_death    starts a program that the kernel kills when its parent dies
local_cluster   a whole cluster on one machine: a Redis server, workers and gateways under one supervisor
"""
