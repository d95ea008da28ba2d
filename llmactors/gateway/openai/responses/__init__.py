"""`/v1/responses`: answers that can be asked for again, streams that can be followed on, work in the background.

schema   what clients send; what is honoured, and what is refused by its name
kept     what the ledger keeps of a response beside its request and its log
shown    a response as an object
events   a response as a stream
routes   the handlers

A response is a request of the ledger, and all that is shown of it follows from the request and its log alone. So any
gateway shows the same, also after the one that took the request is gone.
"""
