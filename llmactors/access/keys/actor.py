"""The actor that keeps a keyring up to date."""

from llmactors.access.keys.keyring import Keyring
from llmactors.actors import Actor, Context


class KeysActor(Actor):
    """Reads the keys before the actor is up. After a crash, the keys that were read before stay valid for a while."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def __repr__(self) -> str:
        return f"<KeysActor {self._keyring!r}>"

    async def on_start(self, context: Context) -> None:
        if context.incarnation == 1:
            await self._keyring.refresh()
        else:
            await self._keyring.refresh_or_log()
        context.spawn(self._keyring.run)
