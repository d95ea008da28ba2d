"""The actor that keeps a keyring up to date."""

from llmactors.access.keys.keyring import Keyring
from llmactors.access.keys.store import KeyStoreError
from llmactors.actors import Actor, Context
from llmactors.errors import Unavailable


class KeysActor(Actor):
    """Reads the keys before the actor is up. After a crash, the keys that were read before stay valid for a while."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def __repr__(self) -> str:
        return f"<KeysActor {self._keyring!r}>"

    async def on_start(self, context: Context) -> None:
        try:
            await self._keyring.refresh()
        except Unavailable as error:
            self._keyring.note_problem(error)  # every caller gets 503 until Redis answers
        except KeyStoreError as error:
            if context.incarnation == 1:
                raise
            self._keyring.note_problem(error)
        context.spawn(self._keyring.run)
