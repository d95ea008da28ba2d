"""How many slots of a llama.cpp server are in use, as the server itself says."""

from typing import Any

from llmactors.backends.llama.client import LlamaClient


async def busy_slots(client: LlamaClient) -> int:
    """How many sequences the server decodes now."""
    return sum(slot["is_processing"] for slot in await client._get("/slots", list[dict[str, Any]]))
