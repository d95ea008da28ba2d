"""Any OpenAI-compatible server as a backend: vLLM, SGLang, llama.cpp's own, Ollama, a vendor, or another llmactors.

An answer whose upstream is lost goes on at another upstream: by token ids at servers that take them, by its text, or
made again without what the client has. `continuation` says which of these ways is taken.

settings          the settings in `--model openai:…`; pure
kind              how `--model` names and makes the backend
backend           asks upstreams, as `tries` decides, until one has given the whole answer

Which upstream is asked:

tries             which upstream a request is sent to next, after which pause, and when the request is given up; pure
balance           which upstream gets the next request; pure
circuit           the circuit breaker of one upstream; pure
faults            what a failed try says about the upstream and about the request; pure
record            counts for the metrics of one upstream, and when it last answered; pure
health            the state of upstreams, and the questions to silent ones
race              asks a second upstream if the first token of the first one is late

What an upstream is asked:

continuation      the ways in which an answer begins or goes on at an upstream; pure
ways              chooses the way for one upstream, by its abilities and its refusals
abilities         asks what one upstream can do, such as to continue a text
engines           the servers that work with token ids: llama.cpp's own, vLLM and SGLang
opening           what is sent to an upstream in one try, and how its response is read
request           the body of a request to an upstream; pure
omissions         the fields that an upstream does not take, as settings and refusals say; pure
embedding         the vectors of inputs
ranking           the scores of documents

How an answer is read:

upstream          one upstream over HTTP: opens streams, and says which fault each failure is
answer_stream     one answer at one upstream: sends the request, and reads the deltas of the answer
chunks            from the bytes of an answer to its chunks; pure
chunk_template    the quick reader of chunks that differ only in their text; pure
chunk_body        the JSON of one event or of a whole answer, in the forms that servers send; pure
call_places       which call of an answer a part of a tool call belongs to; pure
split_characters  characters that a server has cut into two texts, put together again; pure
logprobs          the log probabilities of a chunk; pure
sieve             removes from a stream what the client has already; pure
answer            from chunks to the deltas of the log; pure
token_answer      the same for chunks with token ids; pure
"""

from llmactors.backends.openai.backend import OpenAIBackend
from llmactors.backends.openai.balance import Balance
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings

__all__ = ["Balance", "OpenAIBackend", "OpenAISettings", "UpstreamSettings"]
