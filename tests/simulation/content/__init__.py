"""What requests ask for, beside plain text, and the judgement on their answers.

cases     what is asked: schemas, tools, log probabilities, stop strings, several choices, vectors; in each API; pure
reader    one client of one call, which follows its answer at another gateway when its own gateway dies
load      clients that make calls until they are stopped
answers   what a reader makes of the events or the body of an answer, in each API; pure
logs      what Redis has of a request: its log, and the answer that the log stands for
far_answers  the answers of upstreams that nothing disturbs; pure
judge     compares what clients saw with the logs, and the logs with the undisturbed answers
"""
