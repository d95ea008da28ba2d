"""HTTP/1.1 and WebSocket on Trio, from the socket up. This room knows no model, no ledger and no key.

The server:

address           the text of an address to listen on
server            the listening socket; accepts connections and drains them
connection_limits how many connections a server holds, in all and of one client; pure
addresses         which addresses count as one client; pure
file_limit        the limit on the open files of the process
throttle          bounds how much of a burst of requests is worked on at once
connection        the bytes of one connection: reads, writes, deadlines, the end
held_connection   a connection that outlives this process: a keeper holds it, and a later process goes on
held_journal      the journal of such a connection: what its client has sent
short_journal     the journals of short requests, in memory that this process shares with later ones
write_records     the records of writes in that memory
taken_connection  such a connection as the later process has it
answer_note      what a process notes of an answer that it streams, for the later process
date_header       the header `Date`
begun_response    the state of HTTP/1.1 amid a response that an earlier process has begun; pure
continuation      how such a connection goes on, from what the process before left of it; pure
held_request      a request on such a connection
held_websocket    what a WebSocket on such a connection leaves to a later process
held_server       a server whose connections come from a keeper
keeper_link       the link of this process to its keeper
tcp_position      how many bytes a TCP connection has carried, as the kernel counts them
http1             the protocol of one connection: HTTP/1.1 by h11, WebSocket by Hypercorn
protocol_settings what a protocol takes from its server and from its connection
request_head      the head of a request: its bounds, and what it asks for; pure
byte_budget       bounds the bytes of all incomplete bodies and messages; pure
http_stream       one ASGI application's messages as one HTTP response
websocket_stream  one WebSocket between its connection and its ASGI application
inbox             the messages from a client that its ASGI application has not received yet
exchange          one request and its response: a bounded body, an answer, an error
routing           finds the route of a path; pure
refused_handshake the answer to a handshake of a WebSocket that is refused
request_id        ids of requests
host_names        which texts can be names of hosts; pure
line_safe_json    JSON without characters at which readers split lines; pure
forwarded         what a trusted proxy says of its clients; pure

The client:

client            a client of one server, which keeps connections
client_response   one response of the client, with the body read piece by piece
arrivals          reads many sockets in one pass, for all tasks that wait for bytes
ticker            a timer of the kernel that ticks steadily
client_socket     the connections of the client: TCP, TLS, a proxy's tunnel
content_coding    bodies that a server has compressed; pure
client_errors     what can go wrong between the client and a server
response          responses from bytes, in any split; pure
sse_reader        server-sent events from bytes, in any split; pure
"""
