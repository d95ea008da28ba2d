"""Which upstream is asked, and what becomes of it.

tries             which upstream a request is sent to next, after which pause, and when the request is given up; pure
balance           which upstream gets the next request; pure
circuit           the circuit breaker of one upstream; pure
faults            what a failed try says about the upstream and about the request; pure
counters          counts for the metrics of one upstream, and when it last answered; pure
health            the state of upstreams, and the questions to silent ones
race              asks a second upstream if the first token of the first one is late
"""
