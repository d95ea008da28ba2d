"""How an answer is read.

answer_stream     one answer at one upstream: sends the request, and reads the deltas of the answer
chunks            from the bytes of an answer to its chunks; pure
chunk_template    the quick reader of chunks that differ only in their text; pure
chunk_body        the JSON of one event or of a whole answer, in the forms that servers send; pure
call_places       which call of an answer a part of a tool call belongs to; pure
split_characters  characters that a server has cut into two texts, put together again; pure
logprobs          the log probabilities of a chunk; pure
answer            from chunks to the deltas of the log; pure
token_answer      the same for chunks with token ids; pure
"""
