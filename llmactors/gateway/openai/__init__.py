"""The OpenAI routes: chat completions, completions, models, responses.

schema          the bodies that clients send
completions     the handlers of chat completions and completions
choices         the requests that one call becomes
render          chunks of a stream, and whole answers
models          the handlers of `/v1/models`
errors          the form of errors
body_schemas,   what the types of the bodies cannot say, and the types of whole answers, for the OpenAPI document
response_types
responses/      `/v1/responses`
"""
