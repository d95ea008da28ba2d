"""`GET /openapi.json`: what this gateway serves, in OpenAPI 3.1.

operation     what is told of one route, and how that becomes a document
answers       the bodies of answers, as types
native, compatible, responses, operators     the routes
document      all of them together

A route that is not told of here fails `tests/integration/openapi`: add an `Operation` to the file it belongs to, or
a file of its own to `document`.
"""
