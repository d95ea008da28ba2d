-- What gateways call.

-- When a request expires, in ms; nil for never. `deadline` is a time in ms since 1970, a '+' and the ms from now, or both.
local function due_of(c, deadline)
  local at, after = string.match(deadline, '^(%d*)%+?(%d*)$')
  local due = tonumber(at)
  if after ~= '' then due = math.min(due or math.huge, c.now + after) end
  return due
end

local function create(c, id, body, fields, channel)
  local s = settings(c)
  local r = {
    id = id, m = fields[1], t = fields[2], p = fields[3], c = fields[4], z = fields[5], gr = fields[7],
    rt = fields[8] ~= '' and fields[8] or nil, cv = fields[9] ~= '' and fields[9] or nil, us = fields[10], n = 0, ep = 0, at = 0,
    g = channel, st = 'new',
  }
  check(c, r)
  r.sn = redis.call('HINCRBY', key.counters(c), 'serial', 1)
  redis.call('SET', key.body(c, id), body, 'PX', s.key_ttl_ms)
  put(c, r, 'm', r.m, 't', r.t, 'p', r.p, 'c', r.c, 'z', r.z, 'gr', r.gr, 'n', 0, 'ep', 0, 'at', 0, 'g', channel, 'sn', r.sn,
    'ad', c.now, 'us', r.us)
  if r.rt then put(c, r, 'rt', r.rt) end
  if r.cv then put(c, r, 'cv', r.cv) end
  keep(c, key.request(c, id), s.key_ttl_ms)
  redis.call('ZADD', key.open(c), r.sn, id)
  keep(c, key.open(c))
  keep(c, key.counters(c))
  count(c, 'accepted_total', 1)
  local due = due_of(c, fields[6])
  r.body, r.due = body, due
  if due then
    redis.call('ZADD', key.deadlines(c), due, id)
    keep(c, key.deadlines(c))
  end
  if channel ~= '' then renew_gateway(c, channel) end
  redis.call('ZADD', key.unread(c), grace_ends(c, r), id)
  keep(c, key.unread(c))
  return r
end

local function known_before(c, id, body)
  local known = redis.call('GET', key.body(c, id))
  if known then return known == body and 'duplicate' or 'conflict' end
  local digest = is_gone(c, id)
  if digest then return digest == redis.sha1hex(body) and 'duplicate' or 'conflict' end
  return nil
end

-- Whether the queue's bounds allow so many more requests, of so many bytes together.
local function has_room(c, requests, bytes)
  local s, now = settings(c), redis.call('HMGET', key.counters(c), 'queued', 'queued_bytes')
  return tonumber(now[1] or '0') + requests <= s.max_queued and tonumber(now[2] or '0') + bytes <= s.max_queued_bytes
end

-- Charges the caller of an admitted request.
local function charge(c, r, packed)
  if packed == '' then return end
  local holds = limits.charge_all(c, r.id, cmsgpack.unpack(packed), settings(c).key_ttl_ms)
  if #holds > 0 then put(c, r, 'ch', cmsgpack.pack(holds)) end
end

local REQUEST = 13 -- how many arguments describe one request
local FIELDS = 9 -- how many of them follow the id, the body and the model, before the charges

-- channel or '', then of each request: id, body, model, tenant, class, cost, bytes, deadline or '', grace, retention
-- or '', conversation or '', usage, charges or ''. The usage is packed: the key's id, an estimate of the prompt's tokens,
-- and, where the model has a price, its three parts as in `prices.py`.
-- Admits all requests or none. Returns the outcome, the time in us, and how the caller stands with each limit.
local function submit(c, args)
  local channel, requests = args[3], (#args - 3) / REQUEST
  local duplicates, conflicts, bytes, charges = 0, 0, 0, {}
  for i = 4, #args, REQUEST do
    local known = known_before(c, args[i], args[i + 1])
    if known == 'duplicate' then duplicates = duplicates + 1 end
    if known == 'conflict' then conflicts = conflicts + 1 end
    bytes = bytes + args[i + 6]
    if args[i + 12] ~= '' then
      for _, each in ipairs(cmsgpack.unpack(args[i + 12])) do charges[#charges + 1] = each end
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
  if not has_room(c, requests, bytes) then return answer('overloaded') end
  local admitted, standings = limits.look(c, charges, false)
  if not admitted then return answer('limited', standings) end
  for i = 4, #args, REQUEST do
    local r = create(c, args[i], args[i + 1], { unpack(args, i + 2, i + 2 + FIELDS) }, channel)
    charge(c, r, args[i + 12])
    if not handing_out.new(c, r) then enqueue(c, r) end
  end
  return answer('accepted', standings)
end

register('submit', submit, {})

-- id, body, channel or '', model, tenant, class, cost, bytes, deadline or '', grace, retention or '', conversation or '',
-- usage, number of tokens in the log, these tokens, charges or ''. Restores a request that was accepted before, so beyond all bounds.
local function restore(c, args)
  local id, body, channel = args[3], args[4], args[5]
  local known = known_before(c, id, body)
  if known then return known end
  local r = create(c, id, body, { unpack(args, 6, 15) }, channel)
  r.n = tonumber(args[16])
  if r.n > 0 then
    redis.call('XADD', key.log(c, id), string.format('%d-0', r.n), 't', args[17])
    keep(c, key.log(c, id))
    put(c, r, 'n', r.n)
    note_bytes(c, id, r.n, args[17])
    count(c, 'log_tokens', r.n)
  end
  charge(c, r, args[18])
  enqueue(c, r)
  return 'restored'
end

register('restore', restore, { 'allow-oom' })

-- channel, then pairs of id and seq. Renews the gateway's lease, makes it a reader of each request, and returns the log
-- of each after the seq; or, of a request with a key of another type, `wrong` and the name of the key.
local function tail_one(c, channel, id, after)
  local r = load(c, id)
  if not r then return unknown(c, id) end
  add_reader(c, r, channel)
  if r.st == 'e' then keep_read(c, r) end
  return slice(c, r, after)
end

local function tail(c, args)
  local channel, found = args[3], {}
  renew_gateway(c, channel)
  for i = 4, #args, 2 do
    local id = args[i]
    local slice_of, name = apart(c, wrong_of_request, id, tail_one, c, channel, id, tonumber(args[i + 1]))
    found[#found + 1] = slice_of or { 'wrong', name }
  end
  return found
end

register('tail', tail, { 'allow-oom' })

-- channel, then ids. The gateway does not read these requests any more.
local function unfollow(c, args)
  local channel = args[3]
  for i = 4, #args do
    local r = apart(c, wrong_of_request, args[i], load, c, args[i])
    if r and r.st ~= 'e' and reads(r, channel) then
      local others = {}
      for other in string.gmatch(r.g, '%S+') do
        if other ~= channel then others[#others + 1] = other end
      end
      r.g = table.concat(others, ' ')
      put_channels(c, r)
      redis.call('ZADD', key.unread(c), grace_ends(c, r), r.id)
    end
  end
  return OK
end

register('unfollow', unfollow, { 'allow-oom' })

-- ids. Clients still read these logs, which have ended. Returns of each 1 if it is kept, and 0 if it is gone.
local function still_read(c, args)
  local found = {}
  for i = 3, #args do
    local r = apart(c, wrong_of_request, args[i], load, c, args[i])
    found[#found + 1] = r and r.st == 'e' and keep_read(c, r) and 1 or 0
  end
  return found
end

register('still_read', still_read, { 'allow-oom' })

register('now', function(c) return string.format('%.0f', c.now) end, { 'no-writes' })

-- model, tenant, class. Returns the estimate in milliseconds.
local function expected_wait(c, args)
  local model, tenant, class = args[3], args[4], tonumber(args[5])
  local rate, ahead = per_ms(c, model), 0
  if not rate then return 0 end
  for _, each in ipairs(redis.call('HKEYS', key.classes(c, model))) do
    if tonumber(each) < class then ahead = ahead + ahead_in(c, model, each) end
    if tonumber(each) == class then ahead = ahead + ahead_in(c, model, each, tenant) end
  end
  return math.floor(ahead / rate)
end

register('expected_wait', expected_wait, { 'no-writes' })

-- The places of waiting requests: `FairQueue.places` in Lua. Of a class with more tenants than this, so many are looked at,
-- and the others are taken to be like them.
local LOOKED_AT_MAX = 256

-- A function that returns how many requests of a class are among the first `rank` ones of their tenants.
local function counter_of(c, model, class)
  local q, lengths, sums = queue_of(c, { m = model, p = class }), {}, { [0] = 0 }
  for _, member in ipairs(redis.call('ZRANGE', q.heads, 0, LOOKED_AT_MAX - 1)) do
    lengths[#lengths + 1] = redis.call('ZCARD', flow_of(c, { m = model, p = class, t = string.sub(member, 17) }))
  end
  table.sort(lengths)
  for i, length in ipairs(lengths) do sums[i] = sums[i - 1] + length end
  local scale = #lengths < LOOKED_AT_MAX and 1 or redis.call('ZCARD', q.heads) / #lengths
  return function(rank)
    local low, high = 1, #lengths + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if lengths[middle] < rank then low = middle + 1 else high = middle end
    end
    local beyond = low <= #lengths and rank * (#lengths - low + 1) or 0
    return math.floor((sums[low - 1] + beyond) * scale)
  end
end

-- What one call knows of the queue of a model.
local function queue_seen(c, seen, model)
  if not seen[model] then
    local classes = {}
    for _, each in ipairs(redis.call('HKEYS', key.classes(c, model))) do
      classes[#classes + 1] = { class = tonumber(each), count = counter_of(c, model, each) }
    end
    seen[model] = { classes = classes, rate = per_ms(c, model) }
  end
  return seen[model]
end

local NOT_WAITING = { '', 0, -1 }

local function place_of(c, seen, id)
  local state, model, class, tenant = unpack(redis.call('HMGET', key.request(c, id), 'st', 'm', 'p', 't'))
  if state ~= 'q' then return NOT_WAITING end
  local queue = queue_seen(c, seen, model)
  local rank = redis.call('ZRANK', flow_of(c, { m = model, p = class, t = tenant }), id)
  local place = rank and 0 or 1 -- a request that is reserved for a worker is in no flow
  for _, each in ipairs(rank and queue.classes or {}) do
    if each.class < tonumber(class) then place = place + each.count(math.huge) end
    if each.class == tonumber(class) then place = place + each.count(rank + 1) end
  end
  return { model, place, queue.rate and math.floor(place / queue.rate) or -1 }
end

-- ids. Returns of each its model, its place in the queue, and the estimated time until its claim in ms, which is -1 where
-- it is not known. The place is 0 where the request does not wait.
local function places(c, args)
  local found, seen = {}, {}
  for i = 3, #args do
    found[#found + 1] = apart(c, wrong_of_request, args[i], place_of, c, seen, args[i]) or NOT_WAITING
  end
  return found
end

register('places', places, { 'no-writes' })

-- id, seq
local function read(c, args)
  local r = load(c, args[3])
  return r and slice(c, r, tonumber(args[4])) or unknown(c, args[3])
end

register('read', read, { 'no-writes' })

-- id
local function info(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  local last = r.n + (r.st == 'e' and 1 or 0)
  return { 'known', redis.call('GET', key.body(c, r.id)), r.st, r.ep, r.at, last, r.cs or '' }
end

register('info', info, { 'no-writes' })

-- id
local function cancel_request(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  if r.st == 'e' then return { 'known', 0 } end
  cancel(c, r)
  return { 'known', 1 }
end

register('cancel', cancel_request, { 'allow-oom' })

-- id
local function forget(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  if r.st ~= 'e' then cancel(c, r) end
  bury(c, r.id)
  return { 'known' }
end

register('forget', forget, { 'allow-oom' })

-- id, epoch, number of tokens in the log, number of new tokens, these tokens, '1' to put the request back.
-- Extends a log that the caller has compared with its copy, unless the log has changed meanwhile.
local function extend(c, args)
  local r = load(c, args[3])
  if not r then return unknown(c, args[3]) end
  if r.st == 'e' or r.ep ~= tonumber(args[4]) or r.n ~= tonumber(args[5]) then return { 'known', 0 } end
  local first = r.n + 1
  r.n = r.n + args[6]
  redis.call('XADD', key.log(c, r.id), string.format('%d-0', r.n), 't', args[7])
  keep(c, key.log(c, r.id))
  put_length(c, r)
  note_bytes(c, r.id, tonumber(args[6]), args[7])
  count(c, 'log_tokens', tonumber(args[6]))
  push(c, r.g, push_item(r.id, r.ep, first, args[7], nil))
  if args[8] == '1' and r.h then
    -- The worker continues from a shorter log, perhaps with other tokens: a worker must start again from this log.
    remember_claim_end(c, r, 'repaired', '')
    detach(c, r)
    r.at = r.at - 1
    enqueue(c, r)
  end
  return { 'known', 1 }
end

register('extend', extend, { 'allow-oom' })
