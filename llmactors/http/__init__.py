"""HTTP/1.1 and WebSocket on Trio, from the socket up. This room knows no model, no ledger and no key.

The server:

address         the text of an address to listen on
server          the listening socket; accepts connections and drains them
throttle        bounds how much of a burst of requests is worked on at once
connection      the bytes of one connection: reads, writes, deadlines, the end
http1           the protocol of one connection: HTTP/1.1 by h11, WebSocket by Hypercorn
http_stream     one ASGI application's messages as one HTTP response
inbox           the messages from a client that its ASGI application has not received yet
exchange        one request and its response: a bounded body, an answer, an error
request_id      ids of requests
forwarded       what a trusted proxy says of its clients; pure

The client:

client          a client of one server: keeps connections, streams the bodies of responses
client_socket   its connections: TCP, TLS, a proxy's tunnel
client_errors   what can go wrong between it and a server
response        responses from bytes, in any split; pure
sse_reader      server-sent events from bytes, in any split; pure
"""
