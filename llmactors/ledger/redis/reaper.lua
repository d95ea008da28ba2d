-- What any node calls: `reap` ends what is overdue.

-- The members that are due. Where none is, the time of the first one is noted for the answer.
local function due_in(c, name)
  local first = tonumber(redis.call('ZRANGE', name, 0, 0, 'WITHSCORES')[2])
  if first and first <= c.now then
    c.due = c.now
    return redis.call('ZRANGEBYSCORE', name, '-inf', c.now, 'LIMIT', 0, BATCH)
  end
  c.due = math.min(c.due, first or math.huge)
  return {}
end

-- The last time, in ms, at which a gateway read the request. A gateway that is silent but connected may be stopped, and
-- its clients wait for the gateway.
local function last_read(c, r)
  local last = 0
  for channel in string.gmatch(r.g, '%S+') do
    local due = tonumber(redis.call('ZSCORE', key.gateways(c), channel) or '0')
    if due < c.now and is_connected(channel) then due = c.now end
    last = math.max(last, due)
  end
  return last
end

-- Whether the worker's process has had no connection for a while: the process is dead, or cut off.
local function is_disconnected(c, worker)
  local name = key.worker(c, worker)
  local known = redis.call('HMGET', name, 'channel', 'silent_since')
  if not known[1] or is_connected(known[1]) then
    if known[2] then redis.call('HDEL', name, 'silent_since') end
    return false
  end
  if not known[2] then redis.call('HSET', name, 'silent_since', c.now) end
  local due = (known[2] or c.now) + settings(c).disconnect_grace_ms
  c.due = math.min(c.due, math.max(due, c.now))
  return due <= c.now
end

local function lose_if_disconnected(c, worker)
  return is_disconnected(c, worker) and lose_lease(c, worker, 'disconnected', "the worker's connection ended") or 0
end

local function expire_if_known(c, id)
  local r = load(c, id)
  if r and r.st ~= 'e' then
    expire(c, r)
    return 1
  end
  redis.call('ZREM', key.deadlines(c), id)
  return 0
end

local function cancel_if_unread(c, id)
  local r = load(c, id)
  if not r or r.st == 'e' then
    redis.call('ZREM', key.unread(c), id)
    return 0
  end
  local last = last_read(c, r)
  if last + r.gr > c.now then
    redis.call('ZADD', key.unread(c), last + r.gr, id)
    return 0
  end
  cancel(c, r)
  return 1
end

-- Returns how many requests were changed, in how many ms the next call is known to find something, or -1, and then the
-- names of keys that have another type.
local function reap(c, args)
  local touched = 0
  c.due = math.huge
  notice_outage(c)
  for _, worker in ipairs(redis.call('ZRANGE', key.workers(c), 0, -1)) do
    touched = touched + (apart(c, wrong_of_worker, worker, lose_if_disconnected, c, worker) or 0)
  end
  for _, worker in ipairs(due_in(c, key.workers(c))) do
    touched = touched + (apart(c, wrong_of_worker, worker, lose_lease, c, worker, 'silent', "the worker's lease ended") or 0)
  end
  for _, id in ipairs(due_in(c, key.deadlines(c))) do
    touched = touched + (or_abandon(c, id, expire_if_known, c, id) or 1)
  end
  for _, id in ipairs(due_in(c, key.unread(c))) do
    touched = touched + (or_abandon(c, id, cancel_if_unread, c, id) or 1)
  end
  redis.call('ZREMRANGEBYSCORE', key.gateways(c), '-inf', c.now - settings(c).key_ttl_ms)
  forget_usage(c)
  touched = touched + evict(c)
  return { touched, c.due < math.huge and math.ceil(c.due - c.now) or -1, unpack(c.wrong) }
end

register('reap', reap, { 'allow-oom' })

-- Changes nothing. Raises what keeps new requests from being admitted: a missing right, a key of another type, or what
-- Redis checks before any function that may write, such as OOM, MISCONF, NOREPLICAS, READONLY, MOVED and CLUSTERDOWN.
local function probe(c, args)
  check_rights(c, READS)
  check_ledger(c)
  check_usage(c)
  return OK
end

register('probe', probe, {})
