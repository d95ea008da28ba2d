"""A whole cluster in one process, on a virtual clock, replayed by a seed: `python -m tests.simulation`.

Gateways, workers, clients and the network between them are simulated: their time is virtual, and the order of all that
they do follows from a seed. What they run is the real thing: the nodes with all their actors, HTTP from the socket to
the log, the link to Redis with its protocol, and a real Redis or Valkey server with the ledger's functions. The server
executes one command at a time, and is told the virtual time.

determinism  the virtual time in place of the system's clocks, and seeded randomness in place of the system's
store        the real server behind the simulated network
network      latency, lost commands and replies, partitions, dead hosts, between the nodes and the server
listening    addresses of gateways that only this process can reach
faults       the schedule of the faults of a seed
content      what requests ask for beside plain text, and the judgement on their answers
world        the nodes, the clients, and the faults that strike them
seeds        runs one seed, judges it, and makes its schedule smaller
mutants      plants the bugs of the mutation gate, and looks for seeds that notice
__main__     the command
"""
