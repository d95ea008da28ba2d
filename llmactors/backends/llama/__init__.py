"""A real model: llama.cpp in a child process.

backend           the backend actor's end of it        child, process    the child, and the parent's end of it
client, http      spoken to over loopback              stall             when it counts as stuck

From its events to the tokens and texts of the log, pure: `answer`, `detokenize`; `gguf` reads a model's `vocabulary`
from its file. `quoting` keeps what users type from being read as control tokens.
"""
