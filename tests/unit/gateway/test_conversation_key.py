"""The keys of conversations: equal for the turns of one conversation, and of one tenant only."""

from llmactors.gateway.conversation_key import conversation_of
from llmactors.gateway.openai.schema import read_chat
from llmactors.messages import ChatMessage, GenerateRequest

SYSTEM, ASKED, ANSWERED, ASKED_ON = (
    ChatMessage("system", "be brief"),
    ChatMessage("user", "hi"),
    ChatMessage("assistant", "hello"),
    ChatMessage("user", "why?"),
)


def test_turns_of_a_chat_have_one_key() -> None:
    first, follows = conversation_of("t", "", messages=(SYSTEM, ASKED))
    assert (len(first), follows) == (16, False)
    assert conversation_of("t", "", messages=(SYSTEM, ASKED, ANSWERED, ASKED_ON)) == (first, True)
    others = [
        conversation_of("other", "", messages=(SYSTEM, ASKED)),
        conversation_of("t", "", messages=(ASKED,)),
        conversation_of("t", "", messages=(SYSTEM, ASKED_ON)),
        conversation_of("t", "hi", messages=(SYSTEM, ASKED)),
    ]
    assert len({first, *(key for key, _ in others)}) == 5


def test_session_is_the_key_whatever_the_messages_are() -> None:
    key, follows = conversation_of("t", "s1", messages=(ASKED,))
    assert follows
    assert conversation_of("t", "s1", messages=(ASKED_ON,)) == (key, True)
    assert conversation_of("t", "s1", raw_prompt="x") == (key, True)
    assert conversation_of("u", "s1") != (key, True)


def test_long_raw_prompt_is_known_by_its_beginning() -> None:
    assert conversation_of("t", "", raw_prompt="short") == ("", False)
    long = "\ud83d once upon a time " * 100
    assert conversation_of("t", "", raw_prompt=long) == conversation_of("t", "", raw_prompt=long + "there was")


def test_request_of_a_chat_has_the_key() -> None:
    def request(session: str = "") -> GenerateRequest:
        fields = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt_cache_key": "k"}
        [choice] = read_chat(fields).choices(None)
        return choice.to_request(
            "r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=1.0, session=session
        )

    assert (request().conversation, request().follows_up) == conversation_of("t", "", messages=(ASKED,))
    assert request("k").conversation == conversation_of("t", "k")[0]
