"""What a node tells about itself: metrics for Prometheus, logs on stderr, and the lateness of its event loop.

It knows nothing of actors, requests or HTTP: whoever has something to tell is handed a `Metrics` and calls it.
"""

from llmactors.telemetry.logs import bound_request_id, configure_logging, get_logger
from llmactors.telemetry.metrics import Metrics
from llmactors.telemetry.stall import watch_event_loop

__all__ = ["Metrics", "bound_request_id", "configure_logging", "get_logger", "watch_event_loop"]
