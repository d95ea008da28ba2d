"""A load client for this project's server, and any that speaks OpenAI's HTTP: `python -m llmactors load URL`.

The load client shares no event loop and no queue with the servers that it measures: it uses plain sockets, one thread
and one epoll. While the clock runs, the load client only records the received bytes and their times. It parses and
checks the answers after the run.

target             the server
plan               the requests: how many, how often, which; and the bounds on them
arrivals           when the requests of an open loop arrive; pure
request_encoder    requests as bytes; pure
recording          the bytes of one answer, and when they came; pure
http_recording     the recording of an HTTP response, and its parsing after the run; pure
socket_recording   the recording of a WebSocket's messages; pure
check              whether a recorded answer is right, by the rules of its routes; pure
native, openai     the rules of the routes: each token, in order, and an end; pure
token_times        how many tokens a right answer had, and when they came
held_answers       complete answers that wait for their check; pure
histogram, tally   the distributions and counts over all answers; pure
report             the counts and distributions as one JSON object; pure
connection         one socket
engine             one run, on as many sockets as it takes
processes          what the server's processes use of the machine
measure            a whole measurement, from the warm-up to the report
table              the report for people
snapshot           how far a run has come
progress           a progress bar, in a process of its own
"""
