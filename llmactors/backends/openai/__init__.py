"""Any OpenAI-compatible server as a backend: vLLM, SGLang, llama.cpp's own, Ollama, a vendor, or another llmactors.

An answer whose upstream is lost goes on at another upstream: by token ids at servers that take them, by its text, or
made again without what the client has. `continuation` says which of these strategies is chosen.

settings          the settings in `--model openai:…`; pure
kind              how `--model` names and makes the backend
backend           asks upstreams, as `routing` decides, until one has given the whole answer
routing           which upstream is asked, and what becomes of it
requests          what an upstream is asked
continuation      how an answer goes on at another upstream
responses         how an answer is read
engines           the servers that work with token ids: llama.cpp's own, vLLM and SGLang
"""

from llmactors.backends.openai.backend import OpenAIBackend
from llmactors.backends.openai.routing.balance import Balance
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings

__all__ = ["Balance", "OpenAIBackend", "OpenAISettings", "UpstreamSettings"]
