"""A whole cluster in one process, on a virtual clock, replayed by a seed: `python -m tests.simulation`.

Gateways, workers, clients and the network between them are simulated: their time is virtual, and the order of all that
they do follows from a seed. What they run is the real thing: the nodes with all their actors, HTTP from the socket to
the log, the link to Redis with its protocol, and a real Redis or Valkey server with the ledger's functions. The server
executes one command at a time, and is told the virtual time.

determinism  the virtual time in place of the system's clocks, and seeded randomness in place of the system's
store        the real server behind the simulated network
expiry       times to live in virtual time
network      latency, lost commands and replies, partitions, slow disks, dead hosts, between the nodes and the server
listening    addresses of gateways that only this process can reach
backend      a model whose tokens show whether they belong together, and whose prompts can crash it
cluster      the processes: started again, killed, lost, drained
faults       the kinds of faults, and the schedule of a seed
themes       what a seed is about: which faults go together, the cluster, and what its clients do
strikes      has faults strike, and says when a request may be charged for them
load         the constant clients, whose requests differ in model, class, conversation and tenant
visitors     clients that come and go as readers, cancel, run late, send twice, and flood
content      what requests ask for beside plain text, and the judgement on their answers
upstreams    the servers behind a model that another server makes, and their faults
keepers      gateways below keepers that are killed at every step, and clients that never connect again
world        one simulation, from its beginning to its end
recording    bounds that the server's own recording shows
judge        the oracle: a sentence for each promise that was broken
seeds        runs one seed, and makes its schedule smaller
contract     the contract of the ledger, over the simulated network: `--contract N`
mutants      plants the bugs of the mutation gate, and looks for seeds that notice
shard_mutants  the bugs of a ledger over several servers
__main__     the command
"""
