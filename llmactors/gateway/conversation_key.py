"""The key of a conversation, by which a turn finds the worker that has the conversation's beginning in a cache."""

import hashlib
from collections.abc import Sequence

from llmactors.http.exchange import Exchange
from llmactors.messages import ChatMessage

SESSION_HEADERS = (b"x-session-id", b"x-claude-code-session-id")
"""The headers in which clients name the conversation, in the order in which they count. OpenCode and many gateways
send the first, and Claude Code the second."""
_DIGEST_BYTES = 8
_SEEN_CHARS = 512
"""How many characters of each text are hashed. With this bound a key takes less than 5 µs."""


def session_of(exchange: Exchange, cache_key: str | None = None) -> str:
    """What the client calls the conversation: OpenAI's `prompt_cache_key`, or a header; empty where the client says
    nothing.
    """
    if cache_key:
        return cache_key
    return next((value for name in SESSION_HEADERS if (value := exchange.header(name))), "")


def conversation_of(
    tenant: str, session: str, *, messages: Sequence[ChatMessage] = (), raw_prompt: str = ""
) -> tuple[str, bool]:
    """The key of the conversation, and whether an earlier request may have left its beginning in a cache.

    Without a `session`, a conversation is known by its messages up to the first one of the user, and a raw prompt by
    its beginning. A raw prompt that is shorter than that, and the first turn of a conversation, follow nothing.
    """
    if session:
        return _key(tenant, "session", session[:_SEEN_CHARS]), True
    if messages:
        first = next((place for place, message in enumerate(messages) if message.role == "user"), len(messages))
        texts = [message.content[:_SEEN_CHARS] for message in messages[: first + 1]]
        return _key(tenant, "messages", *texts), len(messages) > first + 1
    if len(raw_prompt) >= _SEEN_CHARS:
        return _key(tenant, "prompt", raw_prompt[:_SEEN_CHARS]), True
    return "", False


def _key(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()
