"""Servers that take a prompt as token ids and say which ids they make. Each module speaks the routes of one server.

Such a server goes on in the middle of an answer exactly: it gets the ids of the prompt and of the answer so far. A
chat's ids are asked for before the answer, or come with its first chunk.

engine      what every server of this kind offers
vocabulary  which vocabulary an upstream has, by the ids of one text
rest        what is left of a constraint behind a text; pure
llamacpp    llama.cpp's own server
vllm        vLLM
sglang      SGLang
"""

from collections.abc import Mapping

from llmactors.backends.openai.engines.engine import TokenServer
from llmactors.backends.openai.engines.llamacpp import LlamaCpp
from llmactors.backends.openai.engines.sglang import SgLang
from llmactors.backends.openai.engines.vllm import Vllm

ENGINES: Mapping[str, TokenServer] = {"llamacpp": LlamaCpp(), "vllm": Vllm(), "sglang": SgLang()}
"""The servers by their names in the setting `engine`."""

__all__ = ["ENGINES", "TokenServer"]
