"""Gateways below keepers, killed at every step, under clients that never connect again.

The keeper is the real one, with its real messages over real sockets; only its processes are those of the simulation.
The kernel is a model, because no seed decides when a real one acknowledges bytes.

tcp         a TCP connection as the kernel of the gateway's host keeps it
sockets     the two ends of such a connection: what a gateway calls, and what a client calls
fate        where gateways die: between two steps that others can see, and at each await
keeping     keepers and their gateways
world       what a simulation has more of with keepers
mutants     bugs that seeds of the theme notice
plain       clients that send requests one after the other and in pipelines, and judge the answers
websockets  clients that follow several streams on a WebSocket, and judge what they hear
"""
