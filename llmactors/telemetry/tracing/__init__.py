"""Traces of requests: which spans there are, and how they are exported.

context  the headers of W3C's Trace Context, of callers and for other servers; ids of spans; pure
conventions  what spans say of requests and answers; pure
span     one span, as it is exported; pure
tracer   decides which requests are traced, and takes their spans
otlp     exports spans with OpenTelemetry's SDK, in a thread; imported only where a node exports traces
actor    logs when spans begin and end to be lost, and exports the last spans at the end of the node

A span is made at its end, from times that were noted before. The gateway makes the spans of `gateway/request_trace.py`,
and a worker makes those of `batcher/claim_trace.py` and, for
requests to upstreams, of `backends/openai/requests/call_trace.py`.
"""
