"""A real model: llama.cpp in a child process.

backend       the backend that the actor drives
process       the parent's end of the child process: starts the child, ends it, knows why it died
child         the child process: llama.cpp with its HTTP server
client        the requests to that server, over loopback
embedding     the vectors of inputs
ranking       the scores of documents
sampling      llama.cpp's settings for drawing tokens; pure
settings      how llama.cpp runs a model
stall         when the child counts as hung; pure
prompt        the prompt of a request, as text or as token ids
conversation  the turns, calls and tools that a chat template renders; pure
images        the images of a conversation, checked before llama.cpp reads them; pure
quoting       keeps control tokens that users type from being read as such; pure
constrained   what llama.cpp is told about the constraint of an answer; pure
answer        from the events of a stream to the tokens of the log; pure
detokenize    from token ids to the text that each one adds; pure
vocabulary    the bytes of each token id; pure
gguf          the head of a model file
abilities     what the model can do, and how much memory it takes; pure
kind          how `--model` names and makes the backend
"""
