"""The bounds on what one caller may ask of a gateway."""

import attrs

from llmactors.gateway.streaming.pump import StreamTiming


@attrs.frozen
class GatewaySettings:
    """The bounds on what one caller may ask of a gateway. Times are in seconds."""

    max_body_bytes: int = 1024 * 1024
    max_image_body_bytes: int = 8 * 1024 * 1024
    """The largest body whose messages have images. The rest of the body is bounded by `max_body_bytes`."""
    max_prompt_chars: int = 256 * 1024
    body_s: float = 30.0
    """The time in which a client must send its body."""
    resume_grace_s: float = 10.0
    """The time that a native stream lives without a reader."""
    background_s: float = 3600.0
    """The time that a response in the background lives without a reader."""
    response_ttl_s: float = 3600.0
    """The time for which a stored response can be read after its end."""
    max_socket_streams: int = 64
    """The number of streams that one WebSocket may follow at once."""
    timing: StreamTiming = attrs.field(factory=StreamTiming)
