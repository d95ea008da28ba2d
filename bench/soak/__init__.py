"""Load both forms of llmactors for an hour with everything that clients do, and look for figures that grow.

samples    reads memory, files, threads, tasks and Redis's figures of every process
growth     judges whether a figure grew
tally      counts the answers, and what was wrong with them
asking     sends a request until it is answered, through any gateway
requests   clients of the HTTP routes
sockets    clients of the WebSocket
rude       clients that send nonsense or half of a message
form       one form of llmactors: its processes, its clients and its faults
strays     ends the processes of a run that was killed
report     the printed report
"""
