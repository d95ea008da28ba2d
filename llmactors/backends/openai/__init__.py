"""Any OpenAI-compatible server as a backend: vLLM, SGLang, llama.cpp's own, Ollama, a vendor, or another llmactors.

settings    the settings in `--model openai:…`; pure
chunks      from the bytes of a stream to its chunks; pure
answer      from chunks to the deltas of the log; pure
request     the request to an upstream; pure
circuit     the circuit breaker of one upstream; pure
balance     which upstream gets the next request; pure
embedding   the vectors of inputs
upstream    one upstream over HTTP: opens streams, and maps each failure to an error of this package
backend     tries upstreams until one begins to answer
kind        how `--model` names and makes the backend
"""

from llmactors.backends.openai.backend import OpenAIBackend
from llmactors.backends.openai.balance import Balance
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings

__all__ = ["Balance", "OpenAIBackend", "OpenAISettings", "UpstreamSettings"]
