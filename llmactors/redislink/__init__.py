"""The link to Redis: one pipelined RESP3 connection on a Trio stream.

link            keeps a connection up
call            the type of a function that sends a command
connection      one connection, from its first byte to its last
protocol        commands and replies as bytes, without I/O
transport       the bytes of a connection: a plain socket, or TLS
address         where the server is, from a URL
several         the URLs of several servers
sentinel, dial  find the master, connect, log in
slots           which node of a Redis Cluster has the keys
question        one question to a server that tells where another is
outage          whether Redis serves this node, and what is logged of it
server_settings which settings of the server are wrong
errors          the outcomes of a command besides its reply
names           every key, channel and function library
settings        the settings and the statistics of a link
binary          the program of a local server

This file imports none of these modules: a process without Redis uses `names` only, and starts without the client
library.
"""
