"""The backends, which make tokens, and the actor that owns a backend.

base            the Protocols: stepwise and streaming backends
actor           the actor that makes one backend, drives it, watches its health, and dies with it
drivers         the actor's loop for each kind of backend
messages        the messages between a backend actor and its batcher
directory       the models that a node serves, and the state of each
fetching        downloads the files of a model beside the event loop
build, kind     from `--model` to backends; the list of the built-in kinds
on_demand       the backend actor of a model that is loaded when requests wait for it
residency       whether such a model is in memory, and whether it is to be there
control_groups  the control groups of this process
memory          how much memory the machine and control groups allow
cores           how many cores affinity and control groups allow
fit             whether prompt and answer fit into the context
stop_strings    cuts a text before its first stop string

llama           a real model: llama.cpp in a child process
mock            the simulated backend, and the oracle that knows its answers
openai          any OpenAI-compatible upstream, or several of them
custom          backends that others write, named by a dotted path or an entry point
models          what `--model` says, and the files of models
"""
