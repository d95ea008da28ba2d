"""What makes tokens, and the actor that owns it.

base                    the Protocols: stepwise and streaming backends
actor, drivers          the backend actor and its two loops; `messages` is what it says to its batcher
directory               which models this node serves, and how they are
model_spec              what `--model` says

mock, mock_settings     the simulated backend; `mock_oracle` knows its answers

llama                   a real model: llama.cpp in a child process (llama_process, llama_child), spoken to over
                        loopback (llama_client, llama_http)
answer, detokenize,     from llama.cpp's events to the tokens and texts of the log, pure; `gguf` reads a model's
vocabulary, stall       vocabulary from its file
stop_strings            what is held back until it is clear that it is no stop string

openai                  any OpenAI-compatible upstream, or several of them, as a backend
custom, custom_batch    whatever a dotted path or an entry point names; CUSTOM.md tells how

catalog, download       from a name to a file that is whole: wheel_download, hub_download, model_cache
"""
