"""Bugs by which a connection that outlives its gateway would lose or repeat bytes, or be cut."""

import textwrap

from tests.chaos.test_mutations import Mutant

_CONNECTION = "llmactors/http/held_connection.py"
_POSITION = "llmactors/http/tcp_position.py"
_RECORDS = "llmactors/http/write_records.py"
_SOCKET = "llmactors/http/held_websocket.py"
_STREAMS = "llmactors/gateway/native/followed_streams.py"
_HERE = "tests/simulation"
_STORED = """if size < len(STORES):
            at = self._places[generation & 1] - (size + 7 & -8)
            STORES[size](self._slots, at, chunk, begin, reached, size, 0, _OF_TOKEN, generation)
        else:
            store_record(self._slots, self._slot, generation, begin, reached, _OF_TOKEN, b"", chunk)
"""


def _mutant(name: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"keeper: {name}", file, old, new, _HERE, "keeper")


KEEPER_MUTANTS = [
    _mutant(
        "a record comes behind its write",
        _CONNECTION,
        "        self._record(data, flags, next_in, reached)\n        sent = self._write_now(data)\n",
        "        sent = self._write_now(data)\n        self._record(data, flags, next_in, reached)\n",
    ),
    _mutant(
        "the record of a chunk comes behind its write",
        _CONNECTION,
        f"        {_STORED}        try:\n            sent = self._raw.send(chunk)\n",
        f"        try:\n            sent = self._raw.send(chunk)\n{textwrap.indent(f'        {_STORED}', '    ')}",
    ),
    _mutant(
        "the position of what was written is read once",
        _POSITION,
        "        info = _info(connection)\n        if (now := _counter(info, _ACKED)) == acked:\n",
        "        info, now = _info(connection), acked\n        if True:\n",
    ),
    _mutant(
        "the position of what was taken is read once",
        _POSITION,
        "        info = _info(connection)\n        if (now := _counter(info, _RECEIVED)) == received:\n",
        "        info, now = _info(connection), received\n        if True:\n",
    ),
    _mutant(
        "bytes are journalled behind being taken",
        _CONNECTION,
        "                    await self._keep(data)\n                    self._throw_away(len(data))\n",
        "                    self._throw_away(len(data))\n                    await self._keep(data)\n",
    ),
    _mutant(
        "the older record wins",
        _RECORDS,
        "return sorted(found, reverse=True)",
        "return sorted(found)",
    ),
    _mutant(
        "half a record counts",
        _RECORDS,
        "        if not generation:\n",
        "        generation = generation or (1 << 60 if length else 0)\n        if not generation:\n",
    ),
    _mutant(
        "the place of a call differs in each gateway",
        _CONNECTION,
        'f"{link.token}:{told.cid}"',
        'f"{link.token}:{told.cid}:{id(link)}"',
    ),
    _mutant(
        "a request is forgotten before its answer is written",
        _CONNECTION,
        "            self._forget_frames(next_in, begin)\n",
        "            self._forget_frames(next_in, begin)\n        if flags & COMPLETE:\n"
        "            self._journal.trim_to(next_in, self._out)\n            self._journal.trim()\n",
    ),
    _mutant(
        "frames of a WebSocket are read again from beside their boundary",
        _SOCKET,
        "        end = self._boundary = self._fed - unparsed\n        self._waiting",
        "        end = self._boundary = self._fed - unparsed - 1\n        self._waiting",
    ),
    _mutant(
        "the seq of a followed stream is not noted",
        _STREAMS,
        "        self._set(stream.place, (seq + 1).to_bytes",
        "        self._set(stream.place, (stream.seq + 1).to_bytes",
    ),
    _mutant(
        "the end of a followed stream is not noted",
        _STREAMS,
        "        self._set(stream.place, _FREE)\n",
        "        assert stream.place >= 0\n",
    ),
]
