"""A load client for this server and for any that speaks OpenAI's HTTP: `python -m llmactors load URL`.

It is not what it measures: plain sockets, one thread, one epoll, and nothing of the event loop, the HTTP library or the
queues of the server. While the clock runs it stores what arrived and when; it parses and checks afterwards.

A map, pure parts first:

    target, plan, arrivals    whom to ask, what, how often, and the bounds on it
    wire                      requests as bytes
    http1, frames             answers from bytes, in whatever pieces they come: HTTP/1.1, WebSocket
    answer                    an answer as it is kept while the clock runs
    native, openai, reading   what an answer must hold: each token, in order, and an end; and what was read from it
    check                     chooses between these
    histogram, tally, report  what all answers together amount to
    connection, engine        one socket; one run of as many as it takes
    processes, measure        what the server's processes use; all of a run, from the warm-up to the report
    table, moment, progress   for people: the report; how far a run has come, and a bar that shows it
    synthetic                 the same figures without any HTTP, from the actors alone
"""
