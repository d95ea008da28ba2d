"""`/v1/responses`: responses that can be retrieved later, followed from any event on, and run in the background.

handlers     the handlers
schema       the bodies and queries that clients send
stored       what the ledger stores of a response beside its request and its log
references   references to items of stored responses
conversation  from the items of the input to messages for the model
tools        the fields about tools and the form of the text
output       the output items, as a fold of the log
view         a response as an object
events       a response as a stream of events
input_items  the items that a response was made from

A response is a request of the ledger. Everything that is shown of a response is made from its request and its log
alone, so that every gateway shows the same, also after the gateway that took the request has died.
"""
