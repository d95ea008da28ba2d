-- The ledger's moves, inside Redis, where each is atomic: `ledger/lifecycle.py`, `leases.py` and `fair_queue.py` in Lua.
--
-- KEYS[1] is the prefix of all keys, as in `llmactors:{main}:`: its hash tag keeps one ledger in one slot.
-- ARGV[1] is the time in milliseconds since 1970, or '' for the server's own; ARGV[2] the settings, packed.
--
--   request:ID   hash    one request's state                  workers       zset  worker -> end of its lease, ms
--   body:ID      string  the request as it was submitted      dead_workers  zset  worker -> when it lost it, ms
--   log:ID       stream  SEQ-0 -> tokens up to SEQ, or end    worker:W      hash  what else is known of it
--   gone:ID      string  a tombstone                          held:W        zset  request -> order of its claim
--   counters     hash                                         stops:W       zset  `ID EPOCH` -> until when to say it, ms
--   deadlines    zset    request -> deadline, ms              gateways      zset  channel -> end of its lease, ms
--   unread       zset    request -> end of its grace, ms      dead_letters  stream
--   ended        zset    request -> when to bury it, ms       limit:…      what callers have used: `limits.lua`
--
-- The queue of one model and class: `classes:M` hash class -> times passed over; `waiting:…` zset of one tenant's
-- requests in order of arrival; `heads:…` zset `SERIAL TENANT` -> start tag; `tags:…` hash of finish tags; `pace:M` hash.

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
    base = keys[1], now = now, now_us = now_us, packed = args[2], counts = {}, kept = {}, works = {}, pushes = {},
  }
end

local function settings(c)
  if not c.settings then c.settings = cmsgpack.unpack(c.packed) end
  return c.settings
end

local function key(c, name) return c.base .. name end

-- What one call counts, keeps alive and tells is gathered, and done once at its end: `commit`.

local function count(c, name, by) c.counts[name] = (c.counts[name] or 0) + by end

local function counted(c, name)
  return tonumber(redis.call('HGET', key(c, 'counters'), name) or '0') + (c.counts[name] or 0)
end

-- Every key has a time to live: as long as anything in use, where nothing else is said.
local function keep(c, name, ms) c.kept[name] = ms or settings(c).keep_ms end

local function load(c, id)
  local flat = redis.call('HGETALL', key(c, 'request:' .. id))
  if #flat == 0 then return nil end
  local r = { id = id }
  for i = 1, #flat, 2 do r[flat[i]] = flat[i + 1] end
  r.n, r.ep, r.at = tonumber(r.n), tonumber(r.ep), tonumber(r.at)
  return r
end

local function put(c, r, ...) redis.call('HSET', key(c, 'request:' .. r.id), ...) end

-- News. What happened to many logs in one call goes out as one message per gateway.

local function push(c, channels, id, epoch, first, tokens, last)
  if channels == '' then return end
  local head = '\149' .. cmsgpack.pack(id) .. cmsgpack.pack(epoch) .. cmsgpack.pack(first)
  local item = head .. (tokens or '\144') .. (last or '\192')
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
    if by ~= 0 then redis.call('HINCRBY', key(c, 'counters'), name, by) end
  end
  for name, ms in pairs(c.kept) do redis.call('PEXPIRE', name, ms) end
  for model in pairs(c.works) do redis.call('PUBLISH', key(c, 'wake'), model) end
  for channel, items in pairs(c.pushes) do
    redis.call('PUBLISH', channel, '\221' .. struct.pack('>I4', #items) .. table.concat(items))
  end
end

-- The queue.

local function queue_of(c, r)
  local name = r.m .. ':' .. r.p
  return {
    classes = key(c, 'classes:' .. r.m),
    heads = key(c, 'heads:' .. name),
    tags = key(c, 'tags:' .. name),
  }
end

local function flow_of(c, r) return key(c, 'waiting:' .. r.p .. ':' .. #r.m .. ':' .. r.m .. ':' .. r.t) end

local function virtual(q) return tonumber(redis.call('HGET', q.tags, 'v') or '0') end

-- The virtual time, and a tenant's finish tag.
local function tags_of(q, tenant)
  local tags = redis.call('HMGET', q.tags, 'v', 't' .. tenant)
  return tonumber(tags[1] or '0'), tonumber(tags[2] or '0')
end

local function head_of(flow)
  local head = redis.call('ZRANGE', flow, 0, 0, 'WITHSCORES')
  return head[1], tonumber(head[2])
end

local function show_head(c, q, tenant, id, serial)
  local start = redis.call('HGET', key(c, 'request:' .. id), 's') or redis.call('HGET', q.tags, 't' .. tenant)
  redis.call('ZADD', q.heads, start, string.format(SERIAL, serial) .. tenant)
end

local function wait_in_line(c, r)
  local q, flow = queue_of(c, r), flow_of(c, r)
  local old, old_serial = head_of(flow)
  if not old then
    redis.call('HSET', q.tags, 't' .. r.t, math.max(tags_of(q, r.t)))
  end
  if r.s then
    -- The virtual time may have begun anew since; an old tag is never later than the present.
    r.s = math.min(tonumber(r.s), virtual(q))
    put(c, r, 's', r.s)
  end
  redis.call('ZADD', flow, r.sn, r.id)
  redis.call('HSETNX', q.classes, r.p, 0)
  local new, new_serial = head_of(flow)
  if new ~= old then
    if old then redis.call('ZREM', q.heads, string.format(SERIAL, old_serial) .. r.t) end
    show_head(c, q, r.t, new, new_serial)
  end
  for _, name in ipairs({ flow, q.classes, q.heads, q.tags }) do keep(c, name) end
end

local function forget_past_tags(q)
  local heads = redis.call('ZCARD', q.heads)
  if redis.call('HLEN', q.tags) <= 2 * heads + 64 then return end
  local now, waiting = virtual(q), {}
  for _, member in ipairs(redis.call('ZRANGE', q.heads, 0, -1)) do waiting['t' .. string.sub(member, 17)] = true end
  local all = redis.call('HGETALL', q.tags)
  for i = 1, #all, 2 do
    if all[i] ~= 'v' and not waiting[all[i]] and tonumber(all[i + 1]) <= now then redis.call('HDEL', q.tags, all[i]) end
  end
end

-- Out of the queue, if it is in it: one that was taken from it waits on in nobody's line.
local function leave_line(c, r)
  local q, flow = queue_of(c, r), flow_of(c, r)
  local old, old_serial = head_of(flow)
  if redis.call('ZREM', flow, r.id) == 0 then return end
  if old == r.id then
    redis.call('ZREM', q.heads, string.format(SERIAL, old_serial) .. r.t)
    local new, new_serial = head_of(flow)
    if new then show_head(c, q, r.t, new, new_serial) end
  end
  if redis.call('EXISTS', q.heads) == 0 then
    -- Nothing waits: a new busy period begins with clean tags and no memory of tenants.
    redis.call('DEL', q.tags)
    redis.call('HDEL', q.classes, r.p)
  elseif redis.call('EXISTS', flow) == 0 then
    forget_past_tags(q)
  end
end

-- The class that is next, and how often it was passed over.
local function next_class(classes)
  local lowest, longest, passed, times = nil, nil, 0, -1
  for i = 1, #classes, 2 do
    local class, over = tonumber(classes[i]), tonumber(classes[i + 1])
    if not lowest or class < lowest then lowest, passed = class, over end
    if over > times or (over == times and class < longest) then longest, times = class, over end
  end
  if times >= PATIENCE then return longest, times end
  return lowest, passed
end

local function take(c, model)
  local classes_key = key(c, 'classes:' .. model)
  local classes = redis.call('HGETALL', classes_key)
  if #classes == 0 then return nil end
  local chosen, passed = next_class(classes)
  for i = 1, #classes, 2 do
    if tonumber(classes[i]) ~= chosen then redis.call('HINCRBY', classes_key, classes[i], 1) end
  end
  if passed > 0 then redis.call('HSET', classes_key, chosen, 0) end
  local q = queue_of(c, { m = model, p = chosen })
  local head = redis.call('ZRANGE', q.heads, 0, 0, 'WITHSCORES')
  if not head[1] then
    redis.call('HDEL', classes_key, chosen) -- a queue that outlived its keys
    return take(c, model)
  end
  local start, tenant = tonumber(head[2]), string.sub(head[1], 17)
  local id = head_of(flow_of(c, { m = model, p = chosen, t = tenant }))
  local r = id and load(c, id)
  if not r then
    redis.call('ZREM', q.heads, head[1])
    if id then redis.call('ZREM', flow_of(c, { m = model, p = chosen, t = tenant }), id) end
    return take(c, model)
  end
  put(c, r, 's', start)
  r.s = start
  local now, tag = tags_of(q, tenant)
  redis.call('HSET', q.tags, 'v', math.max(now, start), 't' .. tenant, math.max(tag, start + tonumber(r.c)))
  leave_line(c, r)
  return r
end

-- How fast the queue of a model moves: `ledger/pace.py`.

local PACE_MS, LEAST_MS = 5000, 200

local function begin_pace(c, model)
  local name = key(c, 'pace:' .. model)
  redis.call('HSETNX', name, 'waiting', c.now)
  keep(c, name)
end

local function note_pace(c, model)
  local name = key(c, 'pace:' .. model)
  if redis.call('EXISTS', key(c, 'classes:' .. model)) == 0 then return end
  local since = tonumber(redis.call('HGET', name, 'since'))
  if not since then
    redis.call('HSET', name, 'since', c.now, 'count', 0)
    keep(c, name)
    return
  end
  local counted = redis.call('HINCRBY', name, 'count', 1)
  local elapsed = c.now - since
  if elapsed >= PACE_MS then redis.call('HSET', name, 'since', c.now, 'count', 0, 'before', counted / elapsed) end
end

local function per_ms(c, model)
  local known = redis.call('HMGET', key(c, 'pace:' .. model), 'since', 'count', 'before', 'waiting')
  local since = known[1] or known[4]
  if not since then return nil end
  local elapsed, counted = c.now - since, tonumber(known[2] or '0')
  if known[3] then return (counted + known[3] * PACE_MS) / (elapsed + PACE_MS) end
  return elapsed >= LEAST_MS and math.max(counted, 1) / elapsed or nil
end

local function ahead_in(c, model, class, tenant)
  local q = queue_of(c, { m = model, p = class })
  local function waiting(of) return redis.call('ZCARD', flow_of(c, { m = model, p = class, t = of })) end
  local own = tenant and waiting(tenant)
  local ahead = own or 0
  for _, member in ipairs(redis.call('ZRANGE', q.heads, 0, -1)) do
    local other = string.sub(member, 17)
    if other ~= tenant then ahead = ahead + (own and math.min(waiting(other), own + 1) or waiting(other)) end
  end
  return ahead
end

-- Moves. A request is queued, or in the hands of a worker, or ended; only `detach` takes it out of a place.

local function detach(c, r)
  if r.h then
    count(c, 'running', -1)
    redis.call('HDEL', key(c, 'request:' .. r.id), 'h')
    redis.call('ZREM', key(c, 'held:' .. r.h), r.id)
    if r.qn and redis.call('EXISTS', key(c, 'held:' .. r.h)) == 0 then
      redis.call('HDEL', key(c, 'worker:' .. r.h), 'suspects', 'suspects_max')
    end
    r.h = nil
    return
  end
  count(c, 'queued', -1)
  count(c, 'queued_bytes', -tonumber(r.z))
  leave_line(c, r)
  if redis.call('EXISTS', key(c, 'classes:' .. r.m)) == 0 then redis.call('DEL', key(c, 'pace:' .. r.m)) end
  if r.rv then
    redis.call('HDEL', key(c, 'worker:' .. r.rv), 'reserved')
    redis.call('HDEL', key(c, 'request:' .. r.id), 'rv')
    r.rv = nil
    tell_work(c, r.m) -- who had it reserved may claim again
  end
end

local function enqueue(c, r)
  if not r.qn and r.at + 1 >= settings(c).quarantine_from then
    r.qn = '1'
    put(c, r, 'qn', 1)
    count(c, 'quarantined', 1)
  end
  put(c, r, 'st', 'q', 'qa', c.now, 'at', r.at)
  r.st = 'q'
  count(c, 'queued', 1)
  count(c, 'queued_bytes', tonumber(r.z))
  wait_in_line(c, r)
  begin_pace(c, r.m)
  tell_work(c, r.m)
end

local function bury(c)
  local s, ended = settings(c), key(c, 'ended')
  for touched = 0, BATCH - 1 do
    local first = redis.call('ZRANGE', ended, 0, 0, 'WITHSCORES')
    if not first[1] then return touched end
    local full = redis.call('ZCARD', ended) > s.retained_max or counted(c, 'ended_tokens') > s.retained_tokens_max
    if tonumber(first[2]) > c.now and not full then return touched end
    local id = first[1]
    local n = tonumber(redis.call('HGET', key(c, 'request:' .. id), 'n') or '0')
    local body = redis.call('GET', key(c, 'body:' .. id)) or ''
    count(c, 'log_tokens', -n)
    count(c, 'ended_tokens', -n)
    redis.call('ZREM', ended, id)
    redis.call('DEL', key(c, 'request:' .. id), key(c, 'body:' .. id), key(c, 'log:' .. id))
    local stone = string.format('%d:%s', c.now + s.tombstone_ms, redis.sha1hex(body))
    redis.call('SET', key(c, 'gone:' .. id), stone, 'PX', math.max(1, s.tombstone_ms))
  end
  return BATCH
end

local function finish(c, r, last, by_epoch)
  local s = settings(c)
  if r.h and by_epoch == 0 then
    -- Told for as long as a lease lasts: who has not heard of it by then has lost everything anyway.
    redis.call('ZADD', key(c, 'stops:' .. r.h), c.now + s.lease_ms, r.id .. ' ' .. string.format('%d', r.ep))
    keep(c, key(c, 'stops:' .. r.h))
    local channel = redis.call('HGET', key(c, 'worker:' .. r.h), 'channel')
    if channel then redis.call('PUBLISH', channel, 's' .. r.h) end
  end
  detach(c, r)
  if r.ch then
    -- With the end itself, whoever writes it: what was reserved cannot outlive its request.
    local held = cmsgpack.unpack(r.ch)
    limits.settle(c, r.id, held[2], limits.tokens_used(r, last, held[1]))
    redis.call('HDEL', key(c, 'request:' .. r.id), 'ch')
  end
  redis.call('XADD', key(c, 'log:' .. r.id), string.format('%d-0', r.n + 1), 'e', last)
  put(c, r, 'st', 'e', 'eb', by_epoch)
  if r.qn then count(c, 'quarantined', -1) end
  count(c, 'ended_total', 1)
  count(c, 'ended_tokens', r.n)
  redis.call('ZREM', key(c, 'deadlines'), r.id)
  redis.call('ZREM', key(c, 'unread'), r.id)
  redis.call('ZADD', key(c, 'ended'), c.now + s.retention_ms, r.id)
  keep(c, key(c, 'ended'))
  local longest = s.retention_ms + s.tombstone_ms + 60000 -- in case that nobody is there to bury it
  for _, name in ipairs({ 'request:', 'body:', 'log:' }) do keep(c, key(c, name .. r.id), longest) end
  push(c, r.g, r.id, r.ep, r.n + 1, nil, last)
  if redis.call('ZCARD', key(c, 'ended')) > s.retained_max or s.retained_tokens_max == 0 then bury(c) end
end

local function cancel(c, r) finish(c, r, cmsgpack.pack({ 'f', 'cancelled', 0, r.n }), 0) end

local function expire(c, r)
  local message = 'the deadline passed before the answer was whole'
  finish(c, r, cmsgpack.pack({ 'x', 'DEADLINE_EXCEEDED', message, 0, r.n }), 0)
end

local function give_up(c, r, code, message, cause)
  local body = redis.call('GET', key(c, 'body:' .. r.id)) or ''
  local letters = key(c, 'dead_letters')
  redis.call('XADD', letters, 'MAXLEN', '=', settings(c).dead_letters_kept, '*',
    'body', body, 'attempt', r.at, 'cause', cause, 'at', c.now)
  keep(c, letters)
  finish(c, r, cmsgpack.pack({ 'x', code, message, -1, -1 }), r.ep)
end

local function crash(c, r, cause)
  -- Who ran with other suspects is not convicted, but goes on with fewer.
  if r.qn and r.h and redis.call('HGET', key(c, 'worker:' .. r.h), 'suspects') == '1' then
    local message = 'its backend or worker crashed in each of %d attempts, in the last with it alone'
    give_up(c, r, 'POISONED', string.format(message, r.at), cause)
  else
    detach(c, r)
    count(c, 'requeued_total', 1)
    enqueue(c, r)
  end
end

local function lose(c, worker, cause)
  redis.call('ZREM', key(c, 'workers'), worker)
  local dead = key(c, 'dead_workers')
  redis.call('ZADD', dead, c.now, worker)
  redis.call('ZREMRANGEBYRANK', dead, 0, -settings(c).dead_workers_kept - 1)
  keep(c, dead)
  local held = redis.call('ZRANGE', key(c, 'held:' .. worker), 0, -1)
  for _, id in ipairs(held) do
    local r = load(c, id)
    if r and r.h == worker then crash(c, r, cause) end
  end
  local reserved = redis.call('HGET', key(c, 'worker:' .. worker), 'reserved')
  local r = reserved and load(c, reserved)
  if r and r.rv == worker then
    redis.call('HDEL', key(c, 'request:' .. reserved), 'rv')
    wait_in_line(c, r)
    tell_work(c, r.m)
  end
  local channel = redis.call('HGET', key(c, 'worker:' .. worker), 'channel')
  redis.call('DEL', key(c, 'worker:' .. worker), key(c, 'held:' .. worker), key(c, 'stops:' .. worker))
  if channel then redis.call('PUBLISH', channel, 's' .. worker) end
  return #held
end

-- Nobody can renew anything while the ledger is away, and nobody looks: such a time counts against nobody.
local function notice_outage(c)
  local s, counters = settings(c), key(c, 'counters')
  local seen = tonumber(redis.call('HGET', counters, 'seen') or '0')
  redis.call('HSET', counters, 'seen', c.now)
  if seen == 0 or c.now - seen < s.outage_ms then return end
  for name, lease in pairs({ workers = s.lease_ms, gateways = s.reader_ms }) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key(c, name), seen, c.now + lease)) do
      redis.call('ZADD', key(c, name), c.now + lease, member)
      if name == 'workers' then redis.call('HDEL', key(c, 'worker:' .. member), 'silent_since') end
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key(c, 'unread'), seen, c.now)) do
    local grace = tonumber(redis.call('HGET', key(c, 'request:' .. id), 'gr') or '0')
    redis.call('ZADD', key(c, 'unread'), c.now + grace, id)
  end
end

-- Whether the worker's lease is good. An overdue one ends here, whether or not anybody reaped.
local function is_live(c, worker)
  local due = tonumber(redis.call('ZSCORE', key(c, 'workers'), worker) or 'nan')
  if not (due == due) then return false end
  if due <= c.now then
    lose(c, worker, "its worker's lease ended")
    return false
  end
  return true
end

-- Readers.

local function patience_ends(c, r)
  local until_ms = math.max(c.now, tonumber(r.wu or '0'))
  for channel in string.gmatch(r.g, '%S+') do
    until_ms = math.max(until_ms, tonumber(redis.call('ZSCORE', key(c, 'gateways'), channel) or '0'))
  end
  return until_ms + r.gr
end

local function reads(r, channel) return string.find(' ' .. r.g .. ' ', ' ' .. channel .. ' ', 1, true) ~= nil end

local function add_reader(c, r, channel)
  if r.st == 'e' or reads(r, channel) then return end
  r.g = r.g == '' and channel or r.g .. ' ' .. channel
  put(c, r, 'g', r.g)
  redis.call('ZADD', key(c, 'unread'), patience_ends(c, r), r.id)
end

local function renew_gateway(c, channel)
  redis.call('ZADD', key(c, 'gateways'), c.now + settings(c).reader_ms, channel)
  keep(c, key(c, 'gateways'))
end

local function is_gone(c, id)
  local stone = redis.call('GET', key(c, 'gone:' .. id))
  if not stone then return nil end
  local due, digest = string.match(stone, '^(%d+):(.*)$')
  return tonumber(due) > c.now and digest or nil
end

local function unknown(c, id) return is_gone(c, id) and { 'gone' } or { 'unknown' } end

-- Chunks of the log that end after `after`: each entry's id is the seq of its last token.
local function chunks(c, id, after)
  local found = {}
  for _, entry in ipairs(redis.call('XRANGE', key(c, 'log:' .. id), string.format('(%d-0', after), '+')) do
    found[#found + 1] = string.match(entry[1], '^%d+')
    found[#found + 1] = entry[2][1]
    found[#found + 1] = entry[2][2]
  end
  return found
end

local function slice(c, r, after)
  if r.st == 'e' then after = math.min(after, r.n) end
  return { 'known', r.st, r.ep, r.at, r.n, chunks(c, r.id, after) }
end

-- What gateways call.

local function create(c, id, body, fields, channel)
  local s = settings(c)
  local r = {
    id = id, m = fields[1], t = fields[2], p = fields[3], c = fields[4], z = fields[5], gr = fields[7],
    n = 0, ep = 0, at = 0, g = channel, st = 'q', sn = redis.call('HINCRBY', key(c, 'counters'), 'serial', 1),
  }
  redis.call('SET', key(c, 'body:' .. id), body, 'PX', s.keep_ms)
  put(c, r, 'm', r.m, 't', r.t, 'p', r.p, 'c', r.c, 'z', r.z, 'gr', r.gr, 'n', 0, 'ep', 0, 'at', 0, 'g', channel, 'sn', r.sn)
  keep(c, key(c, 'request:' .. id))
  keep(c, key(c, 'counters'))
  count(c, 'accepted_total', 1)
  if fields[6] ~= '' then
    redis.call('ZADD', key(c, 'deadlines'), fields[6], id)
    keep(c, key(c, 'deadlines'))
  end
  if channel ~= '' then renew_gateway(c, channel) end
  redis.call('ZADD', key(c, 'unread'), patience_ends(c, r), id)
  keep(c, key(c, 'unread'))
  return r
end

local function known_before(c, id, body)
  local known = redis.call('GET', key(c, 'body:' .. id))
  if known then return known == body and 'duplicate' or 'conflict' end
  local digest = is_gone(c, id)
  if digest then return digest == redis.sha1hex(body) and 'duplicate' or 'conflict' end
  return nil
end

-- Charges the caller for a request that is admitted.
local function charge(c, r, packed)
  if packed == '' then return end
  local estimate, charges = unpack(cmsgpack.unpack(packed))
  local holds = limits.charge_all(c, r.id, charges, settings(c).keep_ms)
  if #holds > 0 then put(c, r, 'ch', cmsgpack.pack({ estimate, holds })) end
end

local REQUEST = 10 -- how many arguments describe one
local FIELDS = 6 -- how many of these come after its id, its body and its model, before its charges

-- channel or '', then of each request: id, body, model, tenant, class, cost, bytes, deadline or '', grace, charges or ''.
-- All or none: outcome, the time in us, and how the caller stands with each limit.
local function submit(c, args)
  local channel, requests = args[3], (#args - 3) / REQUEST
  local duplicates, conflicts, bytes, charges = 0, 0, 0, {}
  for i = 4, #args, REQUEST do
    local known = known_before(c, args[i], args[i + 1])
    if known == 'duplicate' then duplicates = duplicates + 1 end
    if known == 'conflict' then conflicts = conflicts + 1 end
    bytes = bytes + args[i + 6]
    if args[i + 9] ~= '' then
      for _, each in ipairs(cmsgpack.unpack(args[i + 9])[2]) do charges[#charges + 1] = each end
    end
  end
  local function answer(outcome, standings)
    return { outcome, string.format('%.0f', c.now_us), standings or select(2, limits.look(c, charges, true)) }
  end
  if conflicts > 0 or (duplicates > 0 and duplicates < requests) then return answer('conflict') end
  if duplicates > 0 then
    for i = 4, #args, REQUEST do
      local r = channel ~= '' and load(c, args[i])
      if r then add_reader(c, r, channel) end
    end
    return answer('duplicate')
  end
  local s, now = settings(c), redis.call('HMGET', key(c, 'counters'), 'queued', 'queued_bytes')
  if tonumber(now[1] or '0') + requests > s.max_queued or tonumber(now[2] or '0') + bytes > s.max_queued_bytes then
    return answer('overloaded')
  end
  local admitted, standings = limits.look(c, charges, false)
  if not admitted then return answer('limited', standings) end
  for i = 4, #args, REQUEST do
    local r = create(c, args[i], args[i + 1], { unpack(args, i + 2, i + 2 + FIELDS) }, channel)
    charge(c, r, args[i + 9])
    enqueue(c, r)
  end
  return answer('accepted', standings)
end

-- id, body, channel or '', model, tenant, class, cost, bytes, deadline or '', grace, how many tokens its log has, these,
-- charges or ''. For what was accepted once, so beyond all bounds.
local function restore(c, args)
  local id, body, channel = args[3], args[4], args[5]
  local known = known_before(c, id, body)
  if known then return known end
  local r = create(c, id, body, { unpack(args, 6, 12) }, channel)
  r.n = tonumber(args[13])
  if r.n > 0 then
    redis.call('XADD', key(c, 'log:' .. id), string.format('%d-0', r.n), 't', args[14])
    keep(c, key(c, 'log:' .. id))
    put(c, r, 'n', r.n)
    count(c, 'log_tokens', r.n)
  end
  charge(c, r, args[15])
  enqueue(c, r)
  return 'restored'
end

-- channel, then pairs of id and seq: renews the gateway's lease, makes it a reader of each, and says what is new.
local function tail(c, args)
  local channel, found = args[3], {}
  renew_gateway(c, channel)
  for i = 4, #args, 2 do
    local r = load(c, args[i])
    if r then
      add_reader(c, r, channel)
      found[#found + 1] = slice(c, r, tonumber(args[i + 1]))
    else
      found[#found + 1] = unknown(c, args[i])
    end
  end
  return found
end

-- channel, then ids
local function unfollow(c, args)
  local channel = args[3]
  for i = 4, #args do
    local r = load(c, args[i])
    if r and r.st ~= 'e' and reads(r, channel) then
      local others = {}
      for other in string.gmatch(r.g, '%S+') do
        if other ~= channel then others[#others + 1] = other end
      end
      r.g = table.concat(others, ' ')
      put(c, r, 'g', r.g)
      redis.call('ZADD', key(c, 'unread'), patience_ends(c, r), r.id)
    end
  end
  return OK
end

-- model, tenant, class: in milliseconds
local function expected_wait(c, args)
  local model, tenant, class = args[3], args[4], tonumber(args[5])
  local pace, ahead = per_ms(c, model), 0
  if not pace then return 0 end
  for _, each in ipairs(redis.call('HKEYS', key(c, 'classes:' .. model))) do
    if tonumber(each) < class then ahead = ahead + ahead_in(c, model, each) end
    if tonumber(each) == class then ahead = ahead + ahead_in(c, model, each, tenant) end
  end
  return math.floor(ahead / pace)
end

-- id, seq
local function read(c, args)
  local r = load(c, args[3])
  return r and slice(c, r, tonumber(args[4])) or unknown(c, args[3])
end

-- id
local function info(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  local last = r.n + (r.st == 'e' and 1 or 0)
  return { 'known', redis.call('GET', key(c, 'body:' .. r.id)), r.st, r.ep, r.at, last }
end

-- id
local function cancel_request(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  if r.st == 'e' then return { 'known', 0 } end
  cancel(c, r)
  return { 'known', 1 }
end

-- id, ttl in ms
local function watch(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  if r.st ~= 'e' then
    r.wu = math.max(tonumber(r.wu or '0'), c.now + args[4])
    put(c, r, 'wu', r.wu)
    redis.call('ZADD', key(c, 'unread'), 'GT', patience_ends(c, r), r.id)
  end
  return { 'known', 1 }
end

-- id, epoch, tokens in the log, how many more, these, '1' to hand it back to the queue:
-- extends a log that the caller has compared with what it knows, unless anything changed meanwhile.
local function extend(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  if r.st == 'e' or r.ep ~= tonumber(args[4]) or r.n ~= tonumber(args[5]) then return { 'known', 0 } end
  local first = r.n + 1
  r.n = r.n + args[6]
  redis.call('XADD', key(c, 'log:' .. r.id), string.format('%d-0', r.n), 't', args[7])
  keep(c, key(c, 'log:' .. r.id))
  put(c, r, 'n', r.n)
  count(c, 'log_tokens', tonumber(args[6]))
  push(c, r.g, r.id, r.ep, first, args[7], nil)
  if args[8] == '1' and r.h then
    -- Who runs it goes on from a shorter log, and not in the same words perhaps: it must begin again from this one.
    detach(c, r)
    r.at = r.at - 1
    enqueue(c, r)
  end
  return { 'known', 1 }
end

-- What workers call.

-- worker, channel
local function beat(c, args)
  local worker = args[3]
  notice_outage(c)
  local live = is_live(c, worker)
  if not live and redis.call('ZSCORE', key(c, 'dead_workers'), worker) then
    return { 0, {}, {} }
  end
  local s = settings(c)
  redis.call('ZADD', key(c, 'workers'), c.now + s.lease_ms, worker)
  keep(c, key(c, 'workers'))
  redis.call('HSET', key(c, 'worker:' .. worker), 'channel', args[4])
  redis.call('HDEL', key(c, 'worker:' .. worker), 'silent_since')
  keep(c, key(c, 'worker:' .. worker))
  redis.call('ZREMRANGEBYSCORE', key(c, 'stops:' .. worker), '-inf', c.now)
  local stops, held = redis.call('ZRANGE', key(c, 'stops:' .. worker), 0, -1), {}
  for _, id in ipairs(redis.call('ZRANGE', key(c, 'held:' .. worker), 0, -1)) do
    held[#held + 1] = id
    held[#held + 1] = tonumber(redis.call('HGET', key(c, 'request:' .. id), 'ep') or '0')
  end
  return { 1, stops, held }
end

-- worker
local function leave(c, args)
  if redis.call('ZSCORE', key(c, 'workers'), args[3]) then lose(c, args[3], 'its worker left') end
  return OK
end

-- How many suspects may run with one on its nth attempt, itself included.
local function together(c, attempt)
  local s = settings(c)
  return s.suspects_together[attempt - s.quarantine_from + 1] or 1
end

-- What the worker should start now. May reserve a suspect to it, and ends what is overdue.
local function next_for(c, worker, model)
  local known = redis.call('HMGET', key(c, 'worker:' .. worker), 'suspects', 'suspects_max', 'reserved')
  local suspects, most, reserved = tonumber(known[1] or '0'), tonumber(known[2] or '0'), known[3]
  local busy = redis.call('EXISTS', key(c, 'held:' .. worker)) == 1
  if (suspects > 0 and suspects >= most) or (reserved and busy) then return nil end
  while true do
    local r
    if reserved then r = load(c, reserved) else r = take(c, model) end
    if not r then return nil end
    local due = redis.call('ZSCORE', key(c, 'deadlines'), r.id)
    if due and tonumber(due) <= c.now then
      expire(c, r)
      reserved = nil
    elseif r.m ~= model then
      return nil
    elseif suspects > 0 and not (r.qn and suspects < together(c, r.at + 1)) then
      wait_in_line(c, r)
      return nil
    elseif r.qn and busy and suspects == 0 then
      -- It could wait for ever for a worker that happens to be empty, so it picks this one and blocks only it.
      redis.call('HSET', key(c, 'worker:' .. worker), 'reserved', r.id)
      put(c, r, 'rv', worker)
      return nil
    else
      return r
    end
  end
end

local function claimed(c, r)
  local waited = math.max(0, c.now - tonumber(r.qa))
  local body = redis.call('GET', key(c, 'body:' .. r.id))
  return { body, r.ep, r.at, r.qn and 1 or 0, waited, r.n, chunks(c, r.id, 0) }
end

local function start(c, r, worker)
  detach(c, r)
  -- Not just one more: an epoch that was given out before the log lost its end must never be given out again.
  r.ep, r.at, r.h, r.st = math.max(r.ep + 1, c.now), r.at + 1, worker, 'r'
  put(c, r, 'ep', r.ep, 'at', r.at, 'h', worker, 'st', 'r')
  local held = key(c, 'held:' .. worker)
  redis.call('ZADD', held, redis.call('HINCRBY', key(c, 'counters'), 'claims', 1), r.id)
  keep(c, held)
  for _, name in ipairs({ 'request:', 'body:', 'log:' }) do
    if name ~= 'log:' or r.n > 0 then keep(c, key(c, name .. r.id)) end
  end
  if r.qn then
    local name, most = key(c, 'worker:' .. worker), together(c, r.at)
    local suspects = redis.call('HINCRBY', name, 'suspects', 1)
    if suspects > 1 then most = math.min(most, tonumber(redis.call('HGET', name, 'suspects_max'))) end
    redis.call('HSET', name, 'suspects_max', most)
  end
  count(c, 'running', 1)
  note_pace(c, r.m)
end

-- worker, model, slots, a nonce: the same one again gives the same claims again, as the first reply may be lost.
local function claim(c, args)
  local worker, nonce = args[3], args[6]
  notice_outage(c)
  local found = {}
  if not is_live(c, worker) then
    return found
  end
  local before = redis.call('HMGET', key(c, 'worker:' .. worker), 'nonce', 'claimed')
  if before[1] == nonce then
    for id, epoch in string.gmatch(before[2], '(%S+) (%S+)') do
      local r = load(c, id)
      if r and r.h == worker and r.ep == tonumber(epoch) then found[#found + 1] = claimed(c, r) end
    end
    return found
  end
  local ids = {}
  if redis.call('HGET', key(c, 'worker:' .. worker), 'suspects') then
    return found
  end
  while #found < tonumber(args[5]) do
    local r = next_for(c, worker, args[4])
    if not r then break end
    start(c, r, worker)
    found[#found + 1] = claimed(c, r)
    ids[#ids + 1] = r.id .. string.format(' %d', r.ep)
  end
  if #ids > 0 then
    redis.call('HSET', key(c, 'worker:' .. worker), 'nonce', nonce, 'claimed', table.concat(ids, ' '))
  end
  return found
end

-- The answer to a writer that has no claim. A repeated terminal event is the one thing that is fine.
local function refuse(c, r, epoch, end_seq, last)
  if r.ep ~= epoch or r.st ~= 'e' then
    count(c, 'fenced_total', 1)
    return FENCED
  end
  if last and last ~= '' and tonumber(r.eb) == epoch and end_seq == r.n + 1 then
    local entry = redis.call('XREVRANGE', key(c, 'log:' .. r.id), '+', '-', 'COUNT', 1)[1]
    if entry and entry[2][1] == 'e' and entry[2][2] == last then return OK end
  end
  return STOP
end

-- One entry: id, epoch, seq of the first token or '' for the next, how many, these, the terminal event or ''.
local function append_one(c, id, epoch, first, tokens_count, tokens, last)
  local name = key(c, 'request:' .. id)
  local has = redis.call('HMGET', name, 'st', 'ep', 'n', 'g')
  if not has[1] then return GONE, 0 end
  local n = tonumber(has[3])
  first, epoch, tokens_count = tonumber(first) or n + 1, tonumber(epoch), tonumber(tokens_count)
  if has[1] ~= 'r' or tonumber(has[2]) ~= epoch then
    return refuse(c, load(c, id), epoch, first + tokens_count, last), 0
  end
  if first > n + 1 then return GAP, n + 1 end
  if tokens_count > 0 then
    if first < n + 1 then return HAVE, n end
    n = n + tokens_count
    -- Redis itself refuses an id that is not newer than the last.
    redis.call('XADD', key(c, 'log:' .. id), string.format('%d-0', n), 't', tokens)
    if first == 1 then keep(c, key(c, 'log:' .. id)) end
    redis.call('HSET', name, 'n', n)
    c.written = (c.written or 0) + tokens_count
    push(c, has[4], id, epoch, first, tokens, nil)
  elseif first < n + 1 then
    return HAVE, n
  end
  if last ~= '' then finish(c, load(c, id), last, epoch) end
  return OK, 0
end

local function append(c, args)
  local results = {}
  for i = 3, #args, 6 do
    local code, detail = append_one(c, args[i], args[i + 1], args[i + 2], args[i + 3], args[i + 4], args[i + 5])
    results[#results + 1] = code
    results[#results + 1] = detail
  end
  if c.written then count(c, 'log_tokens', c.written) end
  return results
end

-- id, epoch, how, cause
local function release(c, args)
  local id, epoch, how, cause = args[3], tonumber(args[4]), args[5], args[6]
  local r = load(c, id)
  if not r then return GONE end
  if not r.h or r.ep ~= epoch then return refuse(c, r, epoch) end
  if how == 'silent' then
    detach(c, r)
    r.at = r.at - 1
    enqueue(c, r)
  elseif how == 'failed' then
    crash(c, r, cause)
  else
    give_up(c, r, 'BACKEND_FAILED', cause, cause)
  end
  return OK
end

-- What anybody calls.

local function due_of(c, name) return redis.call('ZRANGEBYSCORE', key(c, name), '-inf', c.now, 'LIMIT', 0, BATCH) end

-- Whether nobody has listened for the worker any more for a while: its process is dead, or cut off.
local function has_hung_up(c, worker)
  local name = key(c, 'worker:' .. worker)
  local known = redis.call('HMGET', name, 'channel', 'silent_since')
  if not known[1] or redis.call('PUBSUB', 'NUMSUB', known[1])[2] > 0 then
    if known[2] then redis.call('HDEL', name, 'silent_since') end
    return false
  end
  if not known[2] then
    redis.call('HSET', name, 'silent_since', c.now)
    return false
  end
  return c.now - known[2] >= settings(c).hung_up_ms
end

local function reap(c, args)
  local touched = 0
  notice_outage(c)
  for _, worker in ipairs(redis.call('ZRANGE', key(c, 'workers'), 0, -1)) do
    if has_hung_up(c, worker) then touched = touched + lose(c, worker, 'its worker is gone') end
  end
  for _, worker in ipairs(due_of(c, 'workers')) do touched = touched + lose(c, worker, "its worker's lease ended") end
  for _, id in ipairs(due_of(c, 'deadlines')) do
    local r = load(c, id)
    if r and r.st ~= 'e' then
      expire(c, r)
      touched = touched + 1
    else
      redis.call('ZREM', key(c, 'deadlines'), id)
    end
  end
  for _, id in ipairs(due_of(c, 'unread')) do
    local r = load(c, id)
    if not r or r.st == 'e' then
      redis.call('ZREM', key(c, 'unread'), id)
    else
      local last_seen = tonumber(r.wu or '0')
      for channel in string.gmatch(r.g, '%S+') do
        last_seen = math.max(last_seen, tonumber(redis.call('ZSCORE', key(c, 'gateways'), channel) or '0'))
      end
      if last_seen + r.gr > c.now then
        redis.call('ZADD', key(c, 'unread'), last_seen + r.gr, id)
      else
        cancel(c, r)
        touched = touched + 1
      end
    end
  end
  redis.call('ZREMRANGEBYSCORE', key(c, 'gateways'), '-inf', c.now - settings(c).keep_ms)
  touched = touched + bury(c)
  return touched
end

local function stats(c, args)
  local found = redis.call('HGETALL', key(c, 'counters'))
  for _, name in ipairs({ 'ended', 'workers', 'gateways' }) do
    found[#found + 1] = name
    found[#found + 1] = redis.call('ZCARD', key(c, name))
  end
  found[#found + 1] = 'dead_letters'
  found[#found + 1] = redis.call('XLEN', key(c, 'dead_letters'))
  return found
end

local function dead_letters(c, args)
  return redis.call('XRANGE', key(c, 'dead_letters'), '-', '+')
end

-- Work that was accepted may be finished also where Redis has no memory left; only `submit` is refused then.
local function register(name, move, flags)
  local function callback(keys, args)
    local c = begin(keys, args)
    local reply = move(c, args)
    commit(c)
    return reply
  end
  redis.register_function({ function_name = '@LIBRARY@_' .. name, callback = callback, flags = flags })
end

register('submit', submit, {})
register('restore', restore, { 'allow-oom' })
register('tail', tail, { 'allow-oom' })
register('unfollow', unfollow, { 'allow-oom' })
register('read', read, { 'no-writes' })
register('info', info, { 'no-writes' })
register('expected_wait', expected_wait, { 'no-writes' })
register('cancel', cancel_request, { 'allow-oom' })
register('watch', watch, { 'allow-oom' })
register('extend', extend, { 'allow-oom' })
register('beat', beat, { 'allow-oom' })
register('leave', leave, { 'allow-oom' })
register('claim', claim, { 'allow-oom' })
register('append', append, { 'allow-oom' })
register('release', release, { 'allow-oom' })
register('reap', reap, { 'allow-oom' })
register('stats', stats, { 'no-writes' })
register('dead_letters', dead_letters, { 'no-writes' })
