"""Kills upstreams in the middle of answers, and compares what a client sees: `python -m tests.upstreams.run`.

run           the program: which upstreams, which requests, and the table
upstreams     the processes of upstreams, which are killed and started again
client        OpenAI's Python client, in an environment of its own
llama_server  llama.cpp's own server on a fixed port
"""
