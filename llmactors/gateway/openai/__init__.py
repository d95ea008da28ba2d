"""The OpenAI routes: chat completions, completions, models, responses.

schema          the bodies that clients send
completions     the handlers of chat completions and completions
choices         the requests that one call becomes
render          chunks of a stream, and whole answers
models          the handlers of `/v1/models`
errors          the form of errors
unserved        the fields that are refused, and their values that change nothing
body_schemas    the rules of the bodies that their types cannot express, for the OpenAPI document
response_types  the types of whole answers, for the OpenAPI document
responses/      `/v1/responses`
"""
