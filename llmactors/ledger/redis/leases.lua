-- The leases of workers: `core/leases.py` and `core/silence.py` in Lua.

local function is_connected(channel) return redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0 end

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
  withdraw_offers(c, worker)
  for _, of in ipairs({ key.worker, key.held, key.live, key.stops }) do redis.call('DEL', of(c, worker)) end
  if channel then redis.call('PUBLISH', channel, 's' .. worker) end
end

local function each_held(c, worker)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', key.held(c, worker), 0, -1)) do
    local r = apart(c, wrong_of_request, id, load, c, id)
    if r and r.h == worker then found[#found + 1] = r end
  end
  return found
end

-- Ends the lease of a worker that is dead, as was seen. Returns how many requests the worker held.
local function end_lease(c, worker, ended, cause)
  local held = each_held(c, worker)
  for _, r in ipairs(held) do or_abandon(c, r.id, crash, c, r, ended, cause) end
  close_lease(c, worker)
  return #held
end

-- Silence. It is no death: a silent worker may be stopped, or cut off, and go on later.

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

-- Moves one request of a worker that fell silent. Returns whether the request goes on elsewhere.
local function lose(c, worker, r, counts, ended, cause)
  check(c, r)
  remember_claim_end(c, r, ended, cause)
  if has_got_further(c, r) then
    r.at = r.at - 1
    put_back(c, r)
    return true
  end
  local alone = runs_alone(c, r)
  if alone and counts and silent_attempts(r) + 1 >= SILENT_ATTEMPTS_MAX then
    local message = '%d workers fell silent with this request; with the last, the request ran alone'
    give_up(c, r, 'POISONED', string.format(message, SILENT_ATTEMPTS_MAX), cause, r.ep)
    return false
  end
  local loss = (counts and '1' or '0') .. (alone and '1' or '0')
  r['l:' .. worker] = loss
  put(c, r, 'l:' .. worker, loss)
  if not counts then r.at = r.at - 1 end
  put_back(c, r)
  return true
end

-- Ends the lease of a worker that fell silent. Returns how many requests the worker held.
local function lose_lease(c, worker, ended, cause)
  local counts, held, lost = others_beat(c, worker), each_held(c, worker), {}
  for _, r in ipairs(held) do
    if or_abandon(c, r.id, lose, c, worker, r, counts, ended, cause) then lost[#lost + 1] = r.id end
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

-- Takes back the charges of a silent worker that beats again: the worker had not died.
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
    if is_namesake(other) then end_lease(c, other, 'replaced', 'the worker came back as a new incarnation') end
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

-- Nobody can renew a lease while the ledger is away. Such a time extends the leases, stops and graces that ran out in it.
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
      if name == 'workers' then
        redis.call('HDEL', key.worker(c, member), 'silent_since')
        -- The worker could not hear of its stops either. A key of another type costs the stops only.
        for _, stop in ipairs(redis.pcall('ZRANGE', key.stops(c, member), 0, -1)) do
          redis.call('ZADD', key.stops(c, member), c.now + lease, stop)
        end
      end
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.unread(c), seen, c.now)) do
    local grace = tonumber(apart(c, wrong_of_request, id, redis.call, 'HGET', key.request(c, id), 'gr') or '0')
    redis.call('ZADD', key.unread(c), c.now + grace, id)
  end
end

-- Whether the worker's lease is live. An overdue lease ends here, even if nobody has reaped yet.
local function is_live(c, worker)
  local due = tonumber(redis.call('ZSCORE', key.workers(c), worker) or 'nan')
  if not (due == due) then return false end
  if due <= c.now then
    lose_lease(c, worker, 'silent', "the worker's lease ended")
    return false
  end
  return true
end
