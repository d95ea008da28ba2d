"""Any OpenAI-compatible server as a backend: vLLM, SGLang, llama.cpp's own, Ollama, a vendor, or another llmactors.

settings    what `--model openai:…` says
chunks      from the bytes of a stream to what its chunks say; pure
answer      from chunks to the deltas of the log; pure
circuit     when one upstream gets requests, and when not; pure
balance     which upstream gets the next request; pure
upstream    one upstream over HTTP: opens the stream of an answer, and says in this service's words what went wrong
backend     tries upstreams until one begins to answer
"""

from llmactors.backends.openai.backend import OpenAIBackend
from llmactors.backends.openai.balance import Balance
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings

__all__ = ["Balance", "OpenAIBackend", "OpenAISettings", "UpstreamSettings"]
