"""The actor that keeps a keyring up to date."""

from llmactors.access.keys.keyring import Keyring
from llmactors.actors import Actor, Context


class KeysActor(Actor):
    """Has read the keys before it is up. When it is started again, what was read before it holds a while longer."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def __repr__(self) -> str:
        return f"<KeysActor {self._keyring!r}>"

    async def on_start(self, context: Context) -> None:
        if context.incarnation == 1:
            await self._keyring.look()
        else:
            await self._keyring.look_again()
        context.spawn(self._keyring.run)
