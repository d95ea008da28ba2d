"""Tool calls and reasoning in the text of an answer: what the text must follow, and what a reader makes of it. Pure.

A model writes its calls of tools as text, in the form that the model was trained on. The gateway makes a constraint
from the client's tools, so that the text of a call is always valid. Whoever reads the log of the answer folds the text
into pieces: content, reasoning and calls. The pieces follow from the request and its log alone, so that every gateway
shows the same calls under the same ids.

fold        from the tokens of a log to pieces
pieces      the pieces
functions   the tools that a client offers
constraint  from a client's tools to what the text of the answer has to follow
history     the turns of a conversation in the form of OpenAI's chat API
merging     puts several grammars into one
free_text   grammars of texts that are free but for some words
call_grammar  the parts of a grammar that the formats share
reasoning   splits the reasoning from the text that follows
parser      the part that the parsers of all formats share
call_head   reads the beginning of a call: its name, up to its arguments
json_value  finds the end of a JSON value that comes in parts
tags        finds a tag in a text that comes in parts
hermes      the format of Hermes and Qwen
llama3      the format of Llama 3
mistral     the format of Mistral
formats     the formats by name, and which of them a chat template declares
"""
