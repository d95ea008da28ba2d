"""The API: routes, admission, and the form of every response.

actor           serves the application on a socket
app             all routes
service         what is done for a caller: admit, follow, cancel
queue_hint      refuses at once, over Redis, what a full queue would refuse a round trip later
limit_reached   a refusal by a caller's limits
native/         `/v1/generate`, `/v1/streams/{id}`, `/v1/ws`
openai/         the routes that OpenAI's clients use
openapi/        `/openapi.json`
streaming/      moves token logs to clients
operators       the operator routes of a worker; `health`: those of a gateway
errors          the form of error responses
metrics         what the gateway counts
"""
