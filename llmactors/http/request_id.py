"""Request ids. Pure, but for the randomness."""

import hashlib
import secrets


def new_request_id() -> str:
    """A new id of an exchange, and of the stream that the exchange begins. The id cannot be guessed."""
    return f"req_{secrets.token_hex(16)}"


def keyed_request_id(tenant: str, key: str) -> str:
    """The id of a tenant's request under an idempotency key. Every gateway finds the same id."""
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}:{key}".encode("utf-8", "surrogatepass"))
    return f"req_{digest.hexdigest()[:32]}"
