"""Grammars: what an answer may look like, and which part of that is left after a crash. Pure.

Constrained output needs three things of a grammar. A JSON schema becomes a grammar when a request is admitted. The
grammar travels as GBNF, the text that llama.cpp reads. And where a worker takes an answer over, the residual grammar
says what may follow the text so far.

expressions  a grammar as frozen values
characters   sets of characters
gbnf         reads and writes the text of a grammar
checks       refuses grammars that cannot be served
ambiguity    refuses grammars that have to be followed in too many ways
machine      the stack machine: which texts follow a grammar, and what may come next
shortest     the shortest way to a complete text
residual     what is left of a grammar after a text
json_schema  from JSON schemas to grammars
limits       how large a grammar may be
errors       the errors, which are the client's fault
"""
