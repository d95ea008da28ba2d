"""HTTP and WebSocket, from the socket up.

actor, server,          accept, serve, drain; of a burst a few at a time
turnstile
connection, protocol,   one client's bytes: HTTP/1.1 by h11, WebSockets by Hypercorn, with reads, writes and ends of
http_stream, inbox      our own; one exchange between an application and its connection
app                     all routes: the hot ones on plain ASGI, those for operators (`health`) on Quart
exchange, generate      one HTTP exchange; `POST /v1/generate` and `/v1/streams/{id}`
websocket               `/v1/ws`
openai/, openapi/       the routes that OpenAI's clients know; `GET /openapi.json`
operators               what a worker serves, which has no clients
sse, flusher, pump,     how a log gets to its client: one task writes for all SSE streams, a WebSocket's stream has
events                  its own; what the events look like
service, limited        what is done for a caller, whatever it speaks: admit, follow, cancel; refused by a limit
room                    what a gateway over Redis refuses for want of room without asking there
schema, request_id      reading what clients send; the ids that they get
auth, attempts,         who they are, by key or by ticket; how often they may be wrong; which pages may open sockets
tickets, origin
metrics                 what is counted
"""
