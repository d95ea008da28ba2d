"""How large grammars and schemas may be. Each limit bounds what one request costs the event loop. Pure."""

MAX_TEXT = 32_768
"""The most characters of a grammar."""
MAX_RULES = 1_000
MAX_SYMBOLS = 4_000
"""The most literals, classes, references and groups of a grammar."""
MAX_NESTING = 40
"""How deep the groups of a grammar may be nested."""
MAX_REPETITIONS = 1_999
"""llama.cpp refuses a higher minimum, and takes a higher maximum for no maximum."""
MAX_ELEMENTS = 80_000
"""The most elements of a grammar after llama.cpp has written out its repetitions."""
MAX_STACKS = 400
"""How many stacks the machine follows at once. An ambiguous grammar needs many."""
