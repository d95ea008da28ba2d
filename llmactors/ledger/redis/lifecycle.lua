-- Every change of a request's state: `core/lifecycle.py` in Lua. A request is queued, held by a worker, or ended; only
-- `detach` takes a request out of one of these places.

local function detach(c, r)
  if r.h then
    count(c, 'running', -1)
    redis.call('HDEL', key.request(c, r.id), 'h')
    r.rn = (r.rn or 0) + math.max(0, c.now - r.ca)
    put(c, r, 'n', r.n, 'rn', r.rn)
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
  if redis.call('EXISTS', key.classes(c, r.m)) == 0 then redis.call('DEL', key.claim_rate(c, r.m)) end
  if r.rv then
    redis.call('HDEL', key.worker(c, r.rv), 'reserved')
    redis.call('HDEL', key.request(c, r.id), 'rv')
    r.rv = nil
    notify_work(c, r.m) -- the worker that had it reserved may claim again
  end
end

-- The claims that operators see: `Record.note_claim` and `Record.note_claim_end` in Lua.

local function remember_claim(c, r, worker)
  local notes = r.cs or ''
  if select(2, string.gsub(notes, '\n', '')) >= settings(c).claims_kept then notes = string.match(notes, '\n(.*)$') end
  r.cs = notes .. string.format('%d\t%d\t%s\n', r.ep, c.now, worker)
end

-- A version without notes may have made the claim. The call may be a repeated one, which has noted the end before.
local function remember_claim_end(c, r, ended, detail)
  local earlier, last = string.match('\n' .. (r.cs or ''), '^(.*\n)(%d+\t%d+\t[^\t\n]*)\n$')
  if not last then return end
  detail = string.sub(string.gsub(detail, '[\t\r\n]', ' '), 1, settings(c).claim_detail_bytes)
  r.cs = string.sub(earlier, 2) .. table.concat({ last, ended, detail }, '\t') .. '\n'
  put(c, r, 'cs', r.cs)
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

-- Turns an ended request into a tombstone.
local function bury(c, id)
  local s, known = settings(c), redis.call('HMGET', key.request(c, id), 'n', 't', 'x', 'z')
  local n = tonumber(known[1] or '0')
  local retained = retained_tokens(c, { n = n, x = known[3], z = known[4] })
  if known[2] and redis.call('ZREM', key.ended_of(c, known[2]), id) == 1 then
    add_share(key.ended_logs(c), known[2], -1)
    add_share(key.ended_tokens(c), known[2], -retained)
  end
  if redis.call('ZREM', key.ended(c), id) == 0 then return end
  local body = redis.call('GET', key.body(c, id)) or ''
  count(c, 'log_tokens', -n)
  count(c, 'ended_tokens', -retained)
  redis.call('DEL', key.request(c, id), key.body(c, id), key.log(c, id))
  local stone = string.format('%d:%s', c.now + s.tombstone_ms, redis.sha1hex(body))
  redis.call('SET', key.gone(c, id), stone, 'PX', math.max(1, s.tombstone_ms))
end

local function evict(c)
  local s, ended = settings(c), key.ended(c)
  for touched = 0, BATCH - 1 do
    local first = redis.call('ZRANGE', ended, 0, 0, 'WITHSCORES')
    local id = first[1]
    if not id then return touched end
    if tonumber(first[2]) > c.now then
      -- Beyond a bound, the tenant that has the most is the one that loses its oldest: the one that ended first, however
      -- long it should be kept, because a client still reads an answer that has just ended.
      local crowded = redis.call('ZCARD', ended) > s.retained_max and key.ended_logs(c)
        or counted(c, 'ended_tokens') > s.retained_tokens_max and key.ended_tokens(c)
      if not crowded then return touched end
      local tenant = redis.call('ZREVRANGE', crowded, 0, 0)[1]
      id = tenant and redis.call('ZRANGE', key.ended_of(c, tenant), 0, 0)[1] or id
    end
    if select(2, apart(c, wrong_of_request, id, bury, c, id)) then
      redis.call('ZREM', ended, id) -- its keys have a time to live
    end
  end
  return BATCH
end

-- Sets the times to live of a log that is deleted in `ms`, for the case that no node runs that deletes it.
local function keep_ended(c, id, ms)
  for _, of in ipairs({ key.request, key.body, key.log }) do keep(c, of(c, id), ms + settings(c).tombstone_ms + 60000) end
end

local function finish(c, r, last, by_epoch)
  local s = settings(c)
  check(c, r)
  check_usage(c)
  if r.h and by_epoch == 0 then
    -- A worker that does not hear of the stop within a lease has lost its lease, and all its requests, by then.
    redis.call('ZADD', key.stops(c, r.h), c.now + s.lease_ms, r.id .. ' ' .. string.format('%d', r.ep))
    keep(c, key.stops(c, r.h))
    local channel = redis.call('HGET', key.worker(c, r.h), 'channel')
    if channel then redis.call('PUBLISH', channel, 's' .. r.h) end
  end
  if not r.h then r.qt = (r.qt or 0) + math.max(0, c.now - r.qa) end
  detach(c, r)
  -- Settled and recorded in the step that ends the request, so that no reservation outlives its request, and limits and
  -- usage count the same tokens.
  local used = used_by(r, last)
  if r.ch then
    limits.settle(c, r.id, cmsgpack.unpack(r.ch), used)
    redis.call('HDEL', key.request(c, r.id), 'ch')
  end
  note_usage(c, r, used)
  redis.call('XADD', key.log(c, r.id), string.format('%d-0', r.n + 1), 'e', last)
  put(c, r, 'st', 'e', 'eb', by_epoch, 'et', c.now)
  if r.qn then count(c, 'quarantined', -1) end
  count(c, 'ended_total', 1)
  local retained = retained_tokens(c, r)
  count(c, 'ended_tokens', retained)
  for _, of in ipairs({ key.open, key.deadlines, key.unread }) do redis.call('ZREM', of(c), r.id) end
  local retention_ms = tonumber(r.rt or s.retention_ms)
  redis.call('ZADD', key.ended(c), c.now + retention_ms, r.id)
  redis.call('ZADD', key.ended_of(c, r.t), c.now, r.id)
  add_share(key.ended_logs(c), r.t, 1)
  add_share(key.ended_tokens(c), r.t, retained)
  for _, name in ipairs({ key.ended(c), key.ended_of(c, r.t), key.ended_logs(c), key.ended_tokens(c) }) do keep(c, name) end
  keep_ended(c, r.id, retention_ms)
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
  check_usage(c)
  redis.call('XADD', letters, 'MAXLEN', '=', settings(c).dead_letters_kept, '*',
    'body', body, 'attempt', r.at, 'cause', cause, 'at', c.now)
  keep(c, letters)
  finish(c, r, cmsgpack.pack({ 'x', code, message, -1, -1 }), by_epoch)
end

-- Ends a request whose body or log has another type. What is there now is moved aside, since it is not the ledger's.
local function abandon(c, r, name)
  redis.call('RENAME', name, name .. ':wrong type')
  finish(c, r, cmsgpack.pack({ 'x', 'INTERNAL', 'the ledger cannot read this request', -1, -1 }), 0)
end

-- Runs `step` for the request `id`. Where a key of the request has another type, the request is ended, if its state can be
-- read at all.
local function or_abandon(c, id, step, ...)
  local found, name = apart(c, wrong_of_request, id, step, ...)
  if name and name ~= key.request(c, id) then
    local r = load(c, id)
    if r and r.st ~= 'e' then abandon(c, r, name) end
  end
  return found
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

-- Whether the log has grown so much in the attempt that ends that the request is not the cause of the end.
local function has_got_further(c, r) return r.n - tonumber(r.cn or r.n) >= settings(c).progress_tokens end

local function crash(c, r, ended, cause)
  check(c, r)
  remember_claim_end(c, r, ended, cause)
  if has_got_further(c, r) then
    r.at = r.at - 1
    put_back(c, r)
  elseif runs_alone(c, r) and deaths(r) + 1 >= settings(c).quarantine_from then
    local message = 'the backend or worker crashed in all %d attempts; in the last, this request ran alone'
    give_up(c, r, 'POISONED', string.format(message, r.at), cause, r.ep)
  else
    put_back(c, r)
  end
end

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

-- A follower reads a log that has ended: `Archive._kept_until` in Lua. Returns whether the log is kept.
local function keep_read(c, r)
  local s, due = settings(c), tonumber(redis.call('ZSCORE', key.ended(c), r.id))
  if not due then return false end
  local read_at = math.min(c.now, tonumber(r.et or c.now) + s.longest_read_ms)
  local until_ms = read_at + math.min(tonumber(r.rt or s.retention_ms), s.retention_ms)
  if until_ms > due then
    redis.call('ZADD', key.ended(c), until_ms, r.id)
    redis.call('ZADD', key.ended_of(c, r.t), read_at, r.id) -- what nobody reads is deleted first
    keep_ended(c, r.id, until_ms - c.now)
  end
  return true
end

-- The first lease of a member is in the append-only file, so that it is known after a restart of the server.
local function renew_lease(c, name, member, lease_ms)
  local write = redis.call('ZSCORE', name, member) and write_volatile or redis.call
  write('ZADD', name, c.now + lease_ms, member)
  keep(c, name)
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
