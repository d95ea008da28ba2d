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


def derived_request_id(origin: str, number: int = 0) -> str:
    """The id of request `number` of the call that came from `origin`: a place on a connection that outlives gateways.

    A gateway that reads the same call again finds the same ids.
    """
    digest = hashlib.sha256(f"{origin}:{number}".encode())
    return f"req_{digest.hexdigest()[:32]}"


def request_id_of(tenant: str, key: str | None, origin: str | None, number: int) -> str:
    """The id of request `number` of a call: by the client's key, by the origin of the call, or by chance. The first
    request has the key of the call itself.
    """
    if key is not None:
        return keyed_request_id(tenant, key if number == 0 else f"{key}\0{number}")
    return new_request_id() if origin is None else derived_request_id(origin, number)
