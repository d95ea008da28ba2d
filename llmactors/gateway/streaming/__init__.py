"""Moves token logs to clients, for all API families.

flusher         one task that writes for all SSE streams
sse_stream      one SSE stream
begun_stream    what a gateway notes of a stream, so that the next one goes on without the request
resuming        an answer that an earlier gateway began on the same connection
pump            a stream with a task of its own, as a WebSocket needs
"""
