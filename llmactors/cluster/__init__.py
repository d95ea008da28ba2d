"""The processes of a cluster: the directory of all nodes, and the child processes of a local cluster.

The node directory, in Redis:

node_record     what a node publishes about itself
process_id      identifies the process of a node, so that another process of the machine can see that it has ended
node_store      the records in Redis; the record of a node that does not renew it expires
registration    the actor that renews a node's record every second, and reads the node's cordon
cordon          an operator's word that a node takes no work
watcher         the actor that reads all records every second, on a gateway
redis_monitor   the actor that notices outages of Redis, and wrong settings of the server
first_look      the first look of a gateway at the records of the workers, and the wait for it
known_models    the models in Redis that stay known while no worker runs, and when a gateway starts
peers           the actor that tells a worker of the others' models, and the cluster of the worker's own
models          which models all workers together serve; pure

Child processes:

child           the actor that runs one child process
parent_death    starts a program that the kernel kills when the parent dies
own_server      the Redis server of a local cluster, for its user alone
local_cluster   a whole cluster on one machine: a Redis server, workers and gateways under one supervisor
"""
