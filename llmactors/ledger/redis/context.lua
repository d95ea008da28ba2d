-- The functions of the ledger in Redis, where each call is atomic. They do what `ledger/memory.py` and `ledger/core/` do.
-- All Lua files are one text, in the order of `library.py`. This file has what one call knows and gathers.
--
-- KEYS[1] is the ledger's prefix. `redislink/names.py` says what Redis keeps under each key, and makes the functions
-- `key.KIND(c, …)` at the beginning of the text.
-- ARGV[1] is the time in milliseconds since 1970, or '' for the server's clock. ARGV[2] is the packed settings. The comment
-- above a function of an operation names its arguments from ARGV[3] on.
--
-- The fields of a request's hash, which `load` reads into a table `r`:
--   m model, t tenant, p priority class, c cost, z size in bytes, gr grace in ms, rt own retention in ms or nil     as submitted
--   st state: q queued, r running, e ended      sn order of arrival        qa when it was queued, in ms
--   ep epoch      at attempt      qn in quarantine      h the worker that holds it      rv the worker it is reserved for
--   n length of its log in tokens (while it runs, the length in its worker's `live` hash counts)
--   l:WORKER `COUNTS ALONE`: this worker fell silent while it held the request; two digits, as `core/silence.py` says
--   pe how often it was preempted      cn the length of its log at the last claim
--   cs its newest claims, a line for each: epoch, time in ms and worker, then why the claim ended and a detail, between tabs
--   cv the conversation, behind a `+` where the request follows up
--   us what its usage record repeats, packed      ca when it was claimed, in ms      qt, rn how long it waited and ran before, in ms
--   ad when it was admitted, ft when its log got its first token, et when it ended, in ms      nc its number of claims
--   s start tag      g channels of the gateways that read it      ch its holds, packed      eb the epoch that ended it

local PASSED_OVER_MAX = 16
local BATCH = 256 -- how many overdue requests one call changes at most; the next call continues
local SERIAL = '%016d'

local OK, FENCED, STOP, GAP, GONE, OVERLAP, WRONG = 0, 1, 2, 3, 4, 5, 6

local function begin(keys, args)
  local now = tonumber(args[1])
  local now_us = now and now * 1000
  if not now then
    local time = redis.call('TIME')
    now_us = time[1] * 1000000 + time[2]
    now = math.floor(now_us / 1000)
  end
  return {
    prefix = keys[1], now = now, now_us = now_us, packed = args[2], counts = {}, kept = {}, works = {}, handed = {}, pushes = {},
    pushes_to = {}, wrong = {}, checked = {},
  }
end

-- Nearly all calls come with the same settings, so those of the last call are kept.
local last_packed, last_settings

local function settings(c)
  if c.packed ~= last_packed then last_packed, last_settings = c.packed, cmsgpack.unpack(c.packed) end
  return last_settings
end

-- Counts, times to live and notifications are gathered during a call, and written once at its end by `commit`.

local function count(c, name, by) c.counts[name] = (c.counts[name] or 0) + by end

local function counted(c, name)
  return tonumber(redis.call('HGET', key.counters(c), name) or '0') + (c.counts[name] or 0)
end

-- Sets the time to live of a key. Without `ms` the key is in use, and gets that of all keys in use. This is written only
-- where a tenth of it has passed: a look costs Redis a quarter of a write, and an idle cluster writes nothing.
local function keep(c, name, ms) c.kept[name] = ms or false end

-- A write that reaches neither the append-only file nor a replica, for times that mean nothing after a restart of the
-- server. Without this, an idle cluster would write and sync the file many times a second.
local function write_volatile(...)
  redis.set_repl(redis.REPL_NONE)
  redis.call(...)
  redis.set_repl(redis.REPL_ALL)
end

-- A command that fails in the middle of a function leaves half of a change behind, since Redis takes nothing back. So
-- whatever moves a request calls `check` before its first write: an error then changes nothing, and the call is repeated.

local WRITES = {
  { 'SET', 'v' }, { 'DEL' }, { 'PEXPIRE', 1 }, { 'HSET', 'f', 'v' }, { 'HSETNX', 'f', 'v' }, { 'HDEL', 'f' },
  { 'HINCRBY', 'f', 1 }, { 'ZADD', 1, 'm' }, { 'ZREM', 'm' }, { 'ZREMRANGEBYSCORE', 1, 2 }, { 'ZREMRANGEBYRANK', 1, 2 },
  { 'XADD', '*', 'f', 'v' }, { 'XTRIM', 'MINID', 1 },
}
local READS = {
  { 'GET' }, { 'EXISTS' }, { 'PTTL' }, { 'HGET', 'f' }, { 'HMGET', 'f' }, { 'HGETALL' }, { 'HKEYS' }, { 'HLEN' },
  { 'ZRANGE', 0, 1 }, { 'ZRANGEBYSCORE', 0, 1 }, { 'ZSCORE', 'm' }, { 'ZRANK', 'm' }, { 'ZCARD' }, { 'XRANGE', '-', '+' },
  { 'XREVRANGE', '+', '-' }, { 'XLEN' }, { 'TYPE' },
}

local ZSETS = { key.deadlines, key.open, key.unread, key.ended, key.workers, key.dead_workers, key.gateways }

local function check_rights(c, commands)
  local name = key.counters(c)
  for _, each in ipairs(commands) do
    if not redis.acl_check_cmd(each[1], name, unpack(each, 2)) then
      error({ err = 'NOPERM the Redis user of the ledger may not send ' .. each[1] .. ' for keys of the ledger' })
    end
  end
end

local function check_channels(c)
  if not redis.acl_check_cmd('PUBLISH', key.wake(c), 'm') then
    error({ err = 'NOPERM the Redis user of the ledger may not send PUBLISH to channels of the ledger' })
  end
end

-- Raises where a key has another type: `command` is one that reads keys of the right type only. A call that ends many
-- requests looks at each key once.
local function check_type(c, command, name)
  if c.checked[name] then return end
  redis.call(command, name)
  c.checked[name] = true
end

-- Raises where the user may not do all of this, or a key has another type.
local function check_ledger(c)
  if c.ledger_checked then return end
  check_rights(c, WRITES)
  check_channels(c)
  redis.call('HLEN', key.counters(c))
  redis.call('XLEN', key.dead_letters(c))
  for _, of in ipairs(ZSETS) do redis.call('ZCARD', of(c)) end
  c.ledger_checked = true
end

local function check_worker(c, worker)
  check_type(c, 'HLEN', key.worker(c, worker))
  check_type(c, 'HLEN', key.live(c, worker))
  check_type(c, 'ZCARD', key.held(c, worker))
  check_type(c, 'ZCARD', key.stops(c, worker))
end

local function check(c, r)
  if r.checked then return end
  check_ledger(c)
  check_type(c, 'HLEN', key.classes(c, r.m))
  check_type(c, 'HLEN', key.tags(c, r.m, r.p))
  check_type(c, 'HLEN', key.claim_rate(c, r.m))
  check_type(c, 'ZCARD', key.heads(c, r.m, r.p))
  check_type(c, 'ZCARD', key.waiting(c, r.p, #r.m, r.m, r.t))
  check_type(c, 'XLEN', key.log(c, r.id))
  if r.h then check_worker(c, r.h) end
  r.checked = true
end

-- What an append needs to know of a worker's running requests is in one hash of the worker, so that one decode step takes
-- one read and one write for all of them. While a request runs, the length of its log is only there.

-- Redis stores a small hash as a list, and searches the list for each field. A value of 65 bytes makes the hash a table.
-- So each of these hashes has a field '' that belongs to no request.
local LONG_VALUE = '-----------------------------------------------------------------'

local function live_of(length, epoch, channels) return string.format('%d %d %s', epoch, length, channels) end

local function write_live(c, r) redis.call('HSET', key.live(c, r.h), r.id, live_of(r.n, r.ep, r.g)) end

local function open_live(c, worker) redis.call('HSETNX', key.live(c, worker), '', LONG_VALUE) end

-- The length of a log by its newest entry, for a running request whose line is not in its worker's hash, because
-- somebody else deleted the hash.
local function length_of_log(c, id)
  local entry = redis.call('XREVRANGE', key.log(c, id), '+', '-', 'COUNT', 1)[1]
  return entry and string.match(entry[1], '^%d+') or 0
end

local function load(c, id)
  local flat = redis.call('HGETALL', key.request(c, id))
  if #flat == 0 then return nil end
  local r = { id = id }
  for i = 1, #flat, 2 do r[flat[i]] = flat[i + 1] end
  local live = r.h and redis.call('HGET', key.live(c, r.h), id)
  if live then
    r.n = string.match(live, '^%d+ (%d+)')
  elseif r.h then
    r.n = length_of_log(c, id)
  end
  r.n, r.ep, r.at = tonumber(r.n), tonumber(r.ep), tonumber(r.at)
  return r
end

-- A key that has another type, because somebody else wrote it, must cost only what the key belongs to. `c.wrong` gets the
-- names of such keys, for the log of a node.

local function is_wrong_type(found)
  return string.find(type(found) == 'table' and found.err or tostring(found), 'WRONGTYPE', 1, true) ~= nil
end

-- The first key of these pairs of name and type that has another type.
local function first_wrong(names)
  for _, each in ipairs(names) do
    local found = redis.call('TYPE', each[1]).ok
    if found ~= each[2] and found ~= 'none' then return each[1] end
  end
end

local function wrong_of_request(c, id)
  return first_wrong({ { key.request(c, id), 'hash' }, { key.body(c, id), 'string' }, { key.log(c, id), 'stream' } })
end

local function wrong_of_worker(c, worker)
  return first_wrong({ { key.worker(c, worker), 'hash' }, { key.live(c, worker), 'hash' },
    { key.held(c, worker), 'zset' }, { key.stops(c, worker), 'zset' } })
end

-- Runs `step` for one request or worker. Returns what `step` returns; or, where a key of the request or worker has another
-- type, nil and the name of the key, which `wrong_of` finds. Raises any other error.
local function apart(c, wrong_of, id, step, ...)
  local done, found = pcall(step, ...)
  if done then return found end
  local name = is_wrong_type(found) and wrong_of(c, id)
  if not name then error(found) end
  c.wrong[#c.wrong + 1] = name
  return nil, name
end

local function put(c, r, ...) redis.call('HSET', key.request(c, r.id), ...) end

local function put_length(c, r)
  if r.h then write_live(c, r) else put(c, r, 'n', r.n) end
end

-- Tokens that carry much beside their texts, and the request itself, count as more tokens against `retained_tokens_max`. The
-- field 'x' has the bytes that a log takes beyond those of plain tokens.
local function note_bytes(c, id, number, tokens)
  local more = #tokens - number * settings(c).token_bytes
  if more > 0 then redis.call('HINCRBY', key.request(c, id), 'x', more) end
  return math.max(0, more)
end

local function retained_tokens(c, r) return r.n + math.floor(((r.x or 0) + (r.z or 0)) / settings(c).token_bytes) end

local function put_channels(c, r)
  put(c, r, 'g', r.g)
  if r.h then write_live(c, r) end
end

-- Pushes. The changes of many logs in one call are one message to each gateway.

local function push_item(id, epoch, first, tokens, last)
  return '\149' .. cmsgpack.pack(id, epoch, first) .. (tokens or '\144') .. (last or '\192')
end

local function push(c, channels, item)
  local items = c.pushes_to[channels] -- most entries of a step are for one gateway
  if items then
    items[#items + 1] = item
    return
  end
  for channel in string.gmatch(channels, '%S+') do
    items = c.pushes[channel]
    if not items then items = {}; c.pushes[channel] = items end
    if channel == channels then c.pushes_to[channels] = items end
    items[#items + 1] = item
  end
end

-- Notes that there is something new to claim for `model`.
local function notify_work(c, model) c.works[model] = true end

local handing_out = {} -- the functions of `handing_out.lua`

local function commit(c)
  if next(c.works) then handing_out.waiting(c) end
  if next(c.handed) then handing_out.tell(c) end
  for name, by in pairs(c.counts) do
    -- Never 0: negated, 0 is '-0' in Lua, which Redis does not take as a number.
    if by ~= 0 then redis.call('HINCRBY', key.counters(c), name, by) end
  end
  local in_use_ms = next(c.kept) and settings(c).key_ttl_ms
  for name, ms in pairs(c.kept) do
    if ms or redis.call('PTTL', name) < 0.9 * in_use_ms then redis.call('PEXPIRE', name, ms or in_use_ms) end
  end
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
