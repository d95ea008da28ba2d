"""What an upstream is asked.

upstream          one upstream over HTTP: opens streams, and says which fault each failure is
opening           what is sent to an upstream in one try, and how its response is read
body              the body of a request to an upstream; pure
call_trace        the place of the requests in the trace of the request that they answer
omissions         the fields that an upstream does not take, as settings and refusals say; pure
embedding         the vectors of inputs
ranking           the scores of documents
"""
