"""A load client for this server and for any that speaks OpenAI's HTTP: `python -m llmactors load URL`.

It is not what it measures: plain sockets, one thread, one epoll, and nothing of the event loop, the HTTP library or the
queues of the server. While the clock runs it stores what arrived and when; it parses and checks afterwards.

A map, pure parts first:

    target, plan, arrivals    whom to ask, what, how often, and the bounds on it
    wire                      requests as bytes
    http1, frames             answers from bytes, in whatever pieces they come: HTTP/1.1, WebSocket
    native, openai            what an answer must hold: each token, in order, and an end
    check                     chooses between these
    histogram, tally, report  what all answers together amount to
    engine                    the sockets
    processes, measure        one run, from the warm-up to the report
    table, progress           for people
    synthetic                 the same figures without any HTTP, from the actors alone
"""
