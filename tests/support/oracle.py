"""The right answers of the mock backend."""

from llmactors.backends.mock.oracle import mock_text
from llmactors.messages import GenerateRequest


def oracle(prompt: str, max_tokens: int) -> str:
    """The text of the mock's answer to a prompt."""
    return mock_text(GenerateRequest(id="any", model="mock", prompt=prompt, max_tokens=max_tokens))
