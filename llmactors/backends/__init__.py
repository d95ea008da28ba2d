"""What makes tokens, and the actor that owns it.

base                    the Protocols: stepwise and streaming backends
actor, drivers          the backend actor and its two loops; `messages` is what it says to its batcher
directory               which models this node serves, and how they are
fit                     prompt and answer in one context
stop_strings            what is held back until it is clear that it is no stop string

llama                   a real model: llama.cpp in a child process
mock                    the simulated backend, and the oracle that knows its answers
openai                  any OpenAI-compatible upstream, or several of them
custom                  whatever a dotted path or an entry point names
models                  from what `--model` says to a file that is whole
"""
