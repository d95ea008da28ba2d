"""Request ids. Pure, but for the randomness."""

import secrets


def new_request_id() -> str:
    """Names one exchange, or the stream that it begins. Nobody can guess it, so that nobody can follow by guessing."""
    return f"req_{secrets.token_hex(16)}"
