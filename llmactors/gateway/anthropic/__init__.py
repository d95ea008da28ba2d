"""Anthropic's API: `/v1/messages`, and the counting of tokens. The ledger and the workers know nothing of this API.

schema          the bodies that clients send
history         the conversation, from content blocks
tools           the fields about tools
handlers        the handlers of both routes
blocks          the content blocks of a whole answer
events          the events of a stream
stop_reason     why an answer ended
limit_headers   the headers that show a caller's limits
errors          the form of errors
body_schemas    the rules of the bodies that their types cannot express, for the OpenAPI document
response_types  the types of whole answers, for the OpenAPI document

Source: https://docs.claude.com/en/api/messages.
"""
