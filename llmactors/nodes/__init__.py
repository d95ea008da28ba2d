"""The node directory: which processes make up a cluster, how each is, and which models its workers serve.

record     what one node says of itself
host       which process that is, so that another on the same machine can tell whether it lives
store      the records in Redis: written by their nodes, gone by themselves with a node that is silent
actor      writes this node's record every second, and hears of a drain
models     from all workers' records to what a gateway may accept; pure
watcher    reads the workers' records every second
"""
