"""Times to live in virtual time: what a server is told in place of what it cannot be told. Pure.

A server counts times to live by its own clock, which runs for a second where a simulation runs for a minute. So Lua
code that sets one sets a moment far in the future of the server's clock, which stands for the virtual moment, and notes
the key. Before each command, the keys whose virtual moment has come are deleted. Lua code that asks for the time, or
for the rest of a time to live, gets the virtual one. The code itself is unchanged: it gets another `redis`.
"""

from collections.abc import Iterator

FAR_MS = 20 * 365 * 86_400_000
"""How much later than the virtual moments those of the server are."""
NOW, EXPIRIES = "simulation:now", "simulation:expiries"
"""A string: the virtual time in ms. A zset: each key with a time to live -> when it ends, in virtual ms."""

_REDIS = f"""(function()
  local function real() return redis end
  local function now() return tonumber(real().call('GET', '{NOW}')) end
  local function until_of(name, ms)
    local at = math.floor(now() + ms)
    real().call('ZADD', '{EXPIRIES}', string.format('%.0f', at), name)
    return string.format('%.0f', at + {FAR_MS})
  end
  local moves = {{}}
  function moves.TIME()
    local ms = now()
    return {{ string.format('%.0f', math.floor(ms / 1000)), string.format('%.0f', ms % 1000 * 1000) }}
  end
  function moves.PEXPIRE(name, ms) return real().call('PEXPIREAT', name, until_of(name, ms)) end
  function moves.PTTL(name)
    local at = real().call('PEXPIRETIME', name)
    return at < 0 and at or math.max(0, at - {FAR_MS} - now())
  end
  function moves.SET(name, value, how, ms, ...)
    if how ~= 'PX' then return real().call('SET', name, value, how, ms, ...) end
    return real().call('SET', name, value, 'PXAT', until_of(name, ms), ...)
  end
  return {{
    REPL_NONE = 0, REPL_ALL = 3, register_function = redis.register_function,
    acl_check_cmd = function(...) return real().acl_check_cmd(...) end,
    set_repl = function(...) return real().set_repl(...) end,
    sha1hex = function(...) return real().sha1hex(...) end,
    pcall = function(...) return real().pcall(...) end,
    call = function(command, ...)
      local move = moves[command]
      if move then return move(...) end
      return real().call(command, ...)
    end,
  }}
end)()"""
"""While a library is loaded, there is less in `redis` than when its functions run."""
_SHORT = f"local redis = {' '.join(_REDIS.split())} "
_SET = f"#!lua flags=allow-oom\n{_SHORT}return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])".encode()

TICK = f"""#!lua flags=allow-oom
redis.call('SET', '{NOW}', ARGV[1])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', '{EXPIRIES}', '-inf', ARGV[1])) do
  local at = redis.call('PEXPIRETIME', name)
  if at >= 0 and at - {FAR_MS} <= tonumber(ARGV[1]) then redis.call('UNLINK', name) end
  redis.call('ZREM', '{EXPIRIES}', name)
end
"""
"""Sets the virtual time, and deletes what has expired."""


def in_virtual_time(commands: bytes) -> bytes:
    """The same commands, whose Lua code and times to live are in virtual time."""
    if not any(word in commands for word in (b"\r\nEVAL\r\n", b"\r\nLOAD\r\n", b"\r\nPX\r\n")):
        return commands
    return b"".join(encode_command(_translated(parts)) for parts in _parsed(commands))


def encode_command(parts: list[bytes]) -> bytes:
    """A command as it is sent."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _parsed(commands: bytes) -> Iterator[list[bytes]]:
    at = 0
    while at < len(commands):
        end = commands.index(b"\r\n", at)
        count, at = int(commands[at + 1 : end]), end + 2
        parts = []
        for _ in range(count):
            end = commands.index(b"\r\n", at)
            size = int(commands[at + 1 : end])
            parts.append(commands[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
        yield parts


def _translated(parts: list[bytes]) -> list[bytes]:
    match parts:
        case [b"EVAL", code, *rest]:
            return [b"EVAL", _with_time(code), *rest]
        case [b"FUNCTION", b"LOAD", *options, code]:
            return [b"FUNCTION", b"LOAD", *options, _with_time(code)]
        case [b"SET", name, value, b"PX", ms]:
            return [b"EVAL", _SET, b"1", name, value, ms]
    return parts


def _with_time(code: bytes) -> bytes:
    """Lua code that gets the other `redis`, behind its first line where that says what the code is."""
    head, line_end, rest = code.partition(b"\n") if code.startswith(b"#!") else (b"", b"", code)
    return head + line_end + _SHORT.encode() + rest
