"""The OpenAI routes: chat completions, completions, embeddings, ranking, models, responses.

schema             the bodies that clients send
fields             reads the fields of a body into its class
messages           the messages of a conversation
images             images in the parts of messages
tools              the fields about tools, and calls in the history
text_formats       the fields that say which form the text of an answer has
prompts            the prompts of completions
completions        the handlers of chat completions and completions
choices            the requests that one call becomes
several_choices    several choices of a call in one stream
embedding_schema   the body that clients send for embeddings
embeddings         the handler of `/v1/embeddings`
rerank_schema      the body that clients send to rank documents
rerank             the handler of `/v1/rerank`
inputs_body        the requests that a call with inputs becomes
assistant_message  the message of an answer, from the pieces of its log
render             chunks of a stream, and whole answers
logprobs           the log probabilities of an answer
models             the handlers of `/v1/models`
errors             the form of errors
unserved           the fields that are refused, and their values that change nothing
body_schemas       the rules of the bodies that their types cannot express, for the OpenAPI document
response_types     the types of whole answers, for the OpenAPI document
responses/         `/v1/responses`
"""
