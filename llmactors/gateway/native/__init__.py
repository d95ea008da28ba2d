"""The native routes: `/v1/generate`, `/v1/streams/{id}` and the WebSocket `/v1/ws`.

schema            the JSON that clients send
generate          the HTTP handlers
websocket         one WebSocket with many streams
followed_streams  which streams a WebSocket follows, for a gateway that takes the WebSocket over
tickets           the handler that issues tickets
events            the events of a stream, as SSE and as WebSocket messages
"""
