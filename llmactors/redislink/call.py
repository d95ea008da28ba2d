"""The type of a function that sends a command to Redis, as `RedisLink.call` does."""

from collections.abc import Awaitable, Callable
from typing import Any

Call = Callable[..., Awaitable[Any]]
