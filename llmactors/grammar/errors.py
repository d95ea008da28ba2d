"""The errors of grammars and JSON schemas. All of them are the client's fault, and their messages are safe to show."""

from llmactors.errors import InvalidRequest


class GrammarError(InvalidRequest):
    """A grammar or a schema cannot be served. The message says what is wrong, and where."""


class SchemaError(GrammarError):
    """A JSON schema has a keyword that cannot be served, or that nothing satisfies. `path` leads to the keyword."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        """Where the keyword stands, such as `$.properties.age.not`."""


class TextRejected(GrammarError):
    """A text does not belong to the grammar."""


class TooManyStacks(GrammarError):
    """A grammar is so ambiguous that the stack machine would have to follow too many ways at once."""
