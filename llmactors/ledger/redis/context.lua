-- The ledger's moves, inside Redis, where each is atomic: `ledger/lifecycle.py`, `leases.py` and `fair_queue.py` in Lua.
-- All files here are one text, in the order of `library.py`. This one: the keys, and what one call knows and gathers.
--
-- KEYS[1] is the ledger's prefix; `redislink/names.py` says what Redis keeps under each key, and makes the functions
-- `key.KIND(c, …)` that stand above all files here.
-- ARGV[1] is the time in milliseconds since 1970, or '' for the server's own; ARGV[2] the settings, packed.

local PATIENCE = 16
local BATCH = 256 -- what one call moves at most of what is overdue; the next call goes on
local SERIAL = '%016d'

local OK, FENCED, STOP, GAP, GONE, HAVE = 0, 1, 2, 3, 4, 5

local function begin(keys, args)
  local now = tonumber(args[1])
  local now_us = now and now * 1000
  if not now then
    local time = redis.call('TIME')
    now_us = time[1] * 1000000 + time[2]
    now = math.floor(now_us / 1000)
  end
  return {
    prefix = keys[1], now = now, now_us = now_us, packed = args[2], counts = {}, kept = {}, works = {}, pushes = {},
  }
end

local function settings(c)
  if not c.settings then c.settings = cmsgpack.unpack(c.packed) end
  return c.settings
end

-- What one call counts, keeps alive and tells is gathered, and done once at its end: `commit`.

local function count(c, name, by) c.counts[name] = (c.counts[name] or 0) + by end

local function counted(c, name)
  return tonumber(redis.call('HGET', key.counters(c), name) or '0') + (c.counts[name] or 0)
end

-- Every key has a time to live: as long as anything in use, where nothing else is said.
local function keep(c, name, ms) c.kept[name] = ms or settings(c).keep_ms end

-- What an append has to know of the requests that a worker runs is in one hash of that worker, so that a step takes one
-- read and one write for all of them. As long as a request runs, how long its log is stands only there.

-- A small hash is a list to Redis, in which it searches for every field; with a value of 65 bytes in it, it is a table.
-- So there is a field '' that belongs to no request.
local NO_LIST = '-----------------------------------------------------------------'

local function live_of(length, epoch, channels) return string.format('%d %d %s', epoch, length, channels) end

local function show_live(c, r) redis.call('HSET', key.live(c, r.h), r.id, live_of(r.n, r.ep, r.g)) end

local function open_live(c, worker) redis.call('HSETNX', key.live(c, worker), '', NO_LIST) end

local function load(c, id)
  local flat = redis.call('HGETALL', key.request(c, id))
  if #flat == 0 then return nil end
  local r = { id = id }
  for i = 1, #flat, 2 do r[flat[i]] = flat[i + 1] end
  local live = r.h and redis.call('HGET', key.live(c, r.h), id)
  if live then r.n = string.match(live, '^%d+ (%d+)') end
  r.n, r.ep, r.at = tonumber(r.n), tonumber(r.ep), tonumber(r.at)
  return r
end

local function put(c, r, ...) redis.call('HSET', key.request(c, r.id), ...) end

local function put_length(c, r)
  if r.h then show_live(c, r) else put(c, r, 'n', r.n) end
end

local function put_channels(c, r)
  put(c, r, 'g', r.g)
  if r.h then show_live(c, r) end
end

-- News. What happened to many logs in one call goes out as one message per gateway.

local function push_item(id, epoch, first, tokens, last)
  return '\149' .. cmsgpack.pack(id, epoch, first) .. (tokens or '\144') .. (last or '\192')
end

local function push(c, channels, item)
  for channel in string.gmatch(channels, '%S+') do
    local items = c.pushes[channel]
    if not items then items = {}; c.pushes[channel] = items end
    items[#items + 1] = item
  end
end

local function tell_work(c, model) c.works[model] = true end

local function commit(c)
  for name, by in pairs(c.counts) do
    -- Not 0, which negated is '-0' in Lua and no number to Redis.
    if by ~= 0 then redis.call('HINCRBY', key.counters(c), name, by) end
  end
  for name, ms in pairs(c.kept) do redis.call('PEXPIRE', name, ms) end
  for model in pairs(c.works) do redis.call('PUBLISH', key.wake(c), model) end
  for channel, items in pairs(c.pushes) do
    redis.call('PUBLISH', channel, '\221' .. struct.pack('>I4', #items) .. table.concat(items))
  end
end

-- Makes `move` the Redis function for an operation: `move(c, args)` is one atomic step, and its result the reply.
-- With the flag `allow-oom` it also runs while Redis has no memory left, so that accepted work can be finished.
local function register(operation, move, flags)
  local function callback(keys, args)
    local c = begin(keys, args)
    local reply = move(c, args)
    commit(c)
    return reply
  end
  redis.register_function({ function_name = '@LIBRARY@_' .. operation, callback = callback, flags = flags })
end
