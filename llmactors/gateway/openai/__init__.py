"""The routes that OpenAI's clients know: chat completions, completions, models, responses.

schema   what they send; what is honoured, and what is refused by its name
render   what they get: chunks of a stream, whole answers
errors   how an error looks to them
routes   the handlers

responses/ has `/v1/responses`, which shares these.
"""
