-- Every change of a request's state: `core/lifecycle.py` in Lua. A request is queued, held by a worker, or ended; only
-- `detach` takes a request out of one of these places.

local function detach(c, r)
  if r.h then
    count(c, 'running', -1)
    redis.call('HDEL', key.request(c, r.id), 'h')
    put(c, r, 'n', r.n)
    redis.call('HDEL', key.live(c, r.h), r.id)
    redis.call('ZREM', key.held(c, r.h), r.id)
    if r.qn and redis.call('EXISTS', key.held(c, r.h)) == 0 then
      redis.call('HDEL', key.worker(c, r.h), 'suspects', 'suspects_max')
    end
    r.h = nil
    return
  end
  count(c, 'queued', -1)
  count(c, 'queued_bytes', -tonumber(r.z))
  leave_queue(c, r)
  if redis.call('EXISTS', key.classes(c, r.m)) == 0 then redis.call('DEL', key.pace(c, r.m)) end
  if r.rv then
    redis.call('HDEL', key.worker(c, r.rv), 'reserved')
    redis.call('HDEL', key.request(c, r.id), 'rv')
    r.rv = nil
    notify_work(c, r.m) -- the worker that had it reserved may claim again
  end
end

local function enqueue(c, r)
  local suspect = r.at + 1 >= settings(c).quarantine_from
  if suspect and not r.qn then
    r.qn = '1'
    put(c, r, 'qn', 1)
    count(c, 'quarantined', 1)
  elseif r.qn and not suspect then
    r.qn = nil
    redis.call('HDEL', key.request(c, r.id), 'qn')
    count(c, 'quarantined', -1)
  end
  put(c, r, 'st', 'q', 'qa', c.now, 'at', r.at)
  r.st = 'q'
  count(c, 'queued', 1)
  count(c, 'queued_bytes', tonumber(r.z))
  enter_queue(c, r)
  begin_rate(c, r.m)
  notify_work(c, r.m)
end

local function add_share(name, tenant, by)
  if tonumber(redis.call('ZINCRBY', name, by, tenant)) <= 0 then redis.call('ZREM', name, tenant) end
end

local function evict(c)
  local s, ended = settings(c), key.ended(c)
  for touched = 0, BATCH - 1 do
    local first = redis.call('ZRANGE', ended, 0, 0, 'WITHSCORES')
    local id = first[1]
    if not id then return touched end
    if tonumber(first[2]) > c.now then
      -- Beyond a bound, the tenant that has the most is the one that loses its oldest.
      local crowded = redis.call('ZCARD', ended) > s.retained_max and key.ended_logs(c)
        or counted(c, 'ended_tokens') > s.retained_tokens_max and key.ended_tokens(c)
      if not crowded then return touched end
      local tenant = redis.call('ZREVRANGE', crowded, 0, 0)[1]
      id = tenant and redis.call('ZRANGE', key.ended_of(c, tenant), 0, 0)[1] or id
    end
    local known = redis.call('HMGET', key.request(c, id), 'n', 't')
    local n = tonumber(known[1] or '0')
    if known[2] and redis.call('ZREM', key.ended_of(c, known[2]), id) == 1 then
      add_share(key.ended_logs(c), known[2], -1)
      add_share(key.ended_tokens(c), known[2], -n)
    end
    local body = redis.call('GET', key.body(c, id)) or ''
    count(c, 'log_tokens', -n)
    count(c, 'ended_tokens', -n)
    redis.call('ZREM', ended, id)
    redis.call('DEL', key.request(c, id), key.body(c, id), key.log(c, id))
    local stone = string.format('%d:%s', c.now + s.tombstone_ms, redis.sha1hex(body))
    redis.call('SET', key.gone(c, id), stone, 'PX', math.max(1, s.tombstone_ms))
  end
  return BATCH
end

local function finish(c, r, last, by_epoch)
  local s = settings(c)
  check(c, r)
  if r.h and by_epoch == 0 then
    -- A worker that does not hear of the stop within a lease has lost its lease, and all its requests, by then.
    redis.call('ZADD', key.stops(c, r.h), c.now + s.lease_ms, r.id .. ' ' .. string.format('%d', r.ep))
    keep(c, key.stops(c, r.h))
    local channel = redis.call('HGET', key.worker(c, r.h), 'channel')
    if channel then redis.call('PUBLISH', channel, 's' .. r.h) end
  end
  detach(c, r)
  if r.ch then
    -- Settled in the step that ends the request, so that no reservation outlives its request.
    local held = cmsgpack.unpack(r.ch)
    limits.settle(c, r.id, held[2], limits.tokens_used(r, last, held[1]))
    redis.call('HDEL', key.request(c, r.id), 'ch')
  end
  redis.call('XADD', key.log(c, r.id), string.format('%d-0', r.n + 1), 'e', last)
  put(c, r, 'st', 'e', 'eb', by_epoch)
  if r.qn then count(c, 'quarantined', -1) end
  count(c, 'ended_total', 1)
  count(c, 'ended_tokens', r.n)
  redis.call('ZREM', key.deadlines(c), r.id)
  redis.call('ZREM', key.unread(c), r.id)
  redis.call('ZADD', key.ended(c), c.now + s.retention_ms, r.id)
  redis.call('ZADD', key.ended_of(c, r.t), c.now + s.retention_ms, r.id)
  add_share(key.ended_logs(c), r.t, 1)
  add_share(key.ended_tokens(c), r.t, r.n)
  for _, name in ipairs({ key.ended(c), key.ended_of(c, r.t), key.ended_logs(c), key.ended_tokens(c) }) do keep(c, name) end
  local longest = s.retention_ms + s.tombstone_ms + 60000 -- for the case that no node runs that evicts it
  for _, of in ipairs({ key.request, key.body, key.log }) do keep(c, of(c, r.id), longest) end
  push(c, r.g, push_item(r.id, r.ep, r.n + 1, nil, last))
  if redis.call('ZCARD', key.ended(c)) > s.retained_max or s.retained_tokens_max == 0 then evict(c) end
end

local function cancel(c, r) finish(c, r, cmsgpack.pack({ 'f', 'cancelled', 0, r.n }), 0) end

local function expire(c, r)
  local message = 'the deadline passed before the answer was complete'
  finish(c, r, cmsgpack.pack({ 'x', 'DEADLINE_EXCEEDED', message, 0, r.n }), 0)
end

local function give_up(c, r, code, message, cause, by_epoch)
  local body = redis.call('GET', key.body(c, r.id)) or ''
  local letters = key.dead_letters(c)
  check(c, r)
  redis.call('XADD', letters, 'MAXLEN', '=', settings(c).dead_letters_kept, '*',
    'body', body, 'attempt', r.at, 'cause', cause, 'at', c.now)
  keep(c, letters)
  finish(c, r, cmsgpack.pack({ 'x', code, message, -1, -1 }), by_epoch)
end

local function put_back(c, r)
  check(c, r)
  detach(c, r)
  count(c, 'requeued_total', 1)
  enqueue(c, r)
end

-- A suspect that ran with others is not given up: its next attempt runs with fewer.
local function runs_alone(c, r) return r.qn and r.h and redis.call('HGET', key.worker(c, r.h), 'suspects') == '1' end

-- How many of the attempts that count ended in silence only.
local function silent_attempts(r)
  local found = 0
  for field, value in pairs(r) do
    if string.sub(field, 1, 2) == 'l:' and string.sub(value, 1, 1) == '1' then found = found + 1 end
  end
  return found
end

-- How many attempts ended in a death that was seen, of a worker or a backend.
local function deaths(r) return r.at - silent_attempts(r) - (r.h and 1 or 0) end

local function crash(c, r, cause)
  if runs_alone(c, r) and deaths(r) + 1 >= settings(c).quarantine_from then
    local message = 'the backend or worker crashed in all %d attempts; in the last, this request ran alone'
    give_up(c, r, 'POISONED', string.format(message, r.at), cause, r.ep)
  else
    put_back(c, r)
  end
end

<<<<<<< HEAD
=======
local function close_lease(c, worker)
  redis.call('ZREM', key.workers(c), worker)
  local dead = key.dead_workers(c)
  redis.call('ZADD', dead, c.now, worker)
  redis.call('ZREMRANGEBYRANK', dead, 0, -settings(c).dead_workers_kept - 1)
  keep(c, dead)
  local reserved = redis.call('HGET', key.worker(c, worker), 'reserved')
  local r = reserved and load(c, reserved)
  if r and r.rv == worker then
    redis.call('HDEL', key.request(c, reserved), 'rv')
    enter_queue(c, r)
    notify_work(c, r.m)
  end
  local channel = redis.call('HGET', key.worker(c, worker), 'channel')
  for _, of in ipairs({ key.worker, key.held, key.live, key.stops }) do redis.call('DEL', of(c, worker)) end
  if channel then redis.call('PUBLISH', channel, 's' .. worker) end
end

local function each_held(c, worker)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', key.held(c, worker), 0, -1)) do
    local r = load(c, id)
    if r and r.h == worker then found[#found + 1] = r end
  end
  return found
end

-- Ends the lease of a worker that is dead, as was seen. Returns how many requests the worker held.
local function end_lease(c, worker, cause)
  local held = each_held(c, worker)
  for _, r in ipairs(held) do crash(c, r, cause) end
  close_lease(c, worker)
  return #held
end

-- Silence: `core/silence.py` in Lua.

local SILENT_ATTEMPTS_MAX = 3

local function name_of(worker) return string.match(worker, '^(.*)#') or '' end

local function lost_key(c, worker)
  local name = name_of(worker)
  return key.lost(c, name == '' and worker or name)
end

-- Whether some other worker has beaten in the last half of a lease. While all are silent, the cause is not with one of
-- them: the machine, or all processes, may have been stopped.
local function others_beat(c, worker)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', key.workers(c), c.now + settings(c).lease_ms / 2, '+inf')) do
    if other ~= worker then return true end
  end
  return false
end

-- Ends the lease of a worker that fell silent. Returns how many requests the worker held.
local function lose_lease(c, worker, cause)
  local counts, held, lost = others_beat(c, worker), each_held(c, worker), {}
  for _, r in ipairs(held) do
    local alone = runs_alone(c, r)
    if alone and counts and silent_attempts(r) + 1 >= SILENT_ATTEMPTS_MAX then
      local message = '%d workers fell silent with this request; with the last, the request ran alone'
      give_up(c, r, 'POISONED', string.format(message, SILENT_ATTEMPTS_MAX), cause, r.ep)
    else
      local loss = (counts and '1' or '0') .. (alone and '1' or '0')
      r['l:' .. worker] = loss
      put(c, r, 'l:' .. worker, loss)
      if not counts then r.at = r.at - 1 end
      lost[#lost + 1] = r.id
      put_back(c, r)
    end
  end
  if #lost > 0 then
    redis.call('HSET', lost_key(c, worker), worker, table.concat(lost, ' '))
    keep(c, lost_key(c, worker))
  end
  close_lease(c, worker)
  return #held
end

-- Forgets a silent worker. Calls `each(r, counts, alone)` for each running or waiting request that the worker held.
local function forget_silence(c, worker, each)
  local name = lost_key(c, worker)
  for id in string.gmatch(redis.call('HGET', name, worker) or '', '%S+') do
    local r = load(c, id)
    local loss = r and r['l:' .. worker]
    if loss then
      redis.call('HDEL', key.request(c, id), 'l:' .. worker)
      r['l:' .. worker] = nil
      if r.st ~= 'e' then each(r, string.sub(loss, 1, 1) == '1', string.sub(loss, 2, 2) == '1') end
    end
  end
  redis.call('HDEL', name, worker)
end

-- Takes back the charges of a silent worker, which was heard of again: the worker had not died.
local function heard_again(c, worker)
  forget_silence(c, worker, function(r, counts)
    if counts then put(c, r, 'at', r.at - 1) end
  end)
end

-- Notes a worker's new incarnation: the ones before are dead, and the attempts that they lost count for good.
local function replace_namesakes(c, worker)
  local name = name_of(worker)
  if name == '' then return end
  local function is_namesake(other) return other ~= worker and name_of(other) == name end
  for _, other in ipairs(redis.call('ZRANGE', key.workers(c), 0, -1)) do
    if is_namesake(other) then end_lease(c, other, 'the worker came back as a new incarnation') end
  end
  for _, other in ipairs(redis.call('HKEYS', key.lost(c, name))) do
    if is_namesake(other) then
      forget_silence(c, other, function(r, counts, alone)
        if not counts then
          r.at = r.at + 1
          put(c, r, 'at', r.at)
        end
        if alone and deaths(r) >= settings(c).quarantine_from then
          local message = '%d workers or backends died with this request; with the last, it ran alone'
          give_up(c, r, 'POISONED', string.format(message, deaths(r)), 'the worker died', 0)
        end
      end)
    end
  end
end

-- Nobody can renew a lease while the ledger is away. Such a time extends the leases and graces that ran out in it.
local function notice_outage(c)
  local s, counters = settings(c), key.counters(c)
  local seen = tonumber(redis.call('HGET', counters, 'seen') or '0')
  if seen == 0 then
    redis.call('HSET', counters, 'seen', c.now)
    return
  end
  write_volatile('HSET', counters, 'seen', c.now)
  if c.now - seen < s.outage_ms then return end
  -- After a restart of the server `seen` and the leases are those of the append-only file. They are old, but no worker's
  -- lease is older than `seen`, so that all leases are extended.
  for name, lease in pairs({ workers = s.lease_ms, gateways = s.gateway_lease_ms }) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key[name](c), seen, c.now + lease)) do
      write_volatile('ZADD', key[name](c), c.now + lease, member)
      if name == 'workers' then redis.call('HDEL', key.worker(c, member), 'silent_since') end
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.unread(c), seen, c.now)) do
    local grace = tonumber(redis.call('HGET', key.request(c, id), 'gr') or '0')
    redis.call('ZADD', key.unread(c), c.now + grace, id)
  end
end

-- Whether the worker's lease is live. An overdue lease ends here, even if nobody has reaped yet.
local function is_live(c, worker)
  local due = tonumber(redis.call('ZSCORE', key.workers(c), worker) or 'nan')
  if not (due == due) then return false end
  if due <= c.now then
    lose_lease(c, worker, "the worker's lease ended")
    return false
  end
  return true
end

>>>>>>> 9ac8c5e (Ask Redis again after any error reply, wait for Redis at the start, and write no file while idle)
-- Readers.

local function grace_ends(c, r)
  local until_ms = c.now
  for channel in string.gmatch(r.g, '%S+') do
    until_ms = math.max(until_ms, tonumber(redis.call('ZSCORE', key.gateways(c), channel) or '0'))
  end
  return until_ms + r.gr
end

local function reads(r, channel) return string.find(' ' .. r.g .. ' ', ' ' .. channel .. ' ', 1, true) ~= nil end

local function add_reader(c, r, channel)
  if r.st == 'e' or reads(r, channel) then return end
  r.g = r.g == '' and channel or r.g .. ' ' .. channel
  put_channels(c, r)
  redis.call('ZADD', key.unread(c), grace_ends(c, r), r.id)
end

-- The first lease of a member is in the append-only file, so that it is known after a restart of the server.
local function renew_lease(c, name, member, lease_ms)
  local write = redis.call('ZSCORE', name, member) and write_volatile or redis.call
  write('ZADD', name, c.now + lease_ms, member)
  keep_idle(c, name)
end

local function renew_gateway(c, channel)
  renew_lease(c, key.gateways(c), channel, settings(c).gateway_lease_ms)
end

local function is_gone(c, id)
  local stone = redis.call('GET', key.gone(c, id))
  if not stone then return nil end
  local due, digest = string.match(stone, '^(%d+):(.*)$')
  return tonumber(due) > c.now and digest or nil
end

local function unknown(c, id) return is_gone(c, id) and { 'gone' } or { 'unknown' } end

-- The chunks of the log that end after seq `after`. The id of each entry is the seq of its last token.
local function chunks(c, id, after)
  local found = {}
  for _, entry in ipairs(redis.call('XRANGE', key.log(c, id), string.format('(%d-0', after), '+')) do
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
