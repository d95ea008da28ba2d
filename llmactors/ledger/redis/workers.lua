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
