"""Request ids. Pure, but for the randomness."""

import hashlib
import secrets


def new_request_id() -> str:
    """Names one exchange, or the stream that it begins. Nobody can guess it, so that nobody can follow by guessing."""
    return f"req_{secrets.token_hex(16)}"


def keyed_request_id(tenant: str, key: str) -> str:
    """The one request of this tenant under this idempotency key, whichever gateway is asked."""
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}:{key}".encode("utf-8", "surrogatepass"))
    return f"req_{digest.hexdigest()[:32]}"
