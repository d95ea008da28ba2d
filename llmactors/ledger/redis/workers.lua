-- What workers call.

-- worker, channel
local function beat(c, args)
  local worker = args[3]
  notice_outage(c)
  if not is_live(c, worker) then
    if redis.call('ZSCORE', key.dead_workers(c), worker) then
      heard_again(c, worker)
      return { 0, {}, {} }
    end
    replace_namesakes(c, worker)
  end
  local s = settings(c)
  renew_lease(c, key.workers(c), worker, s.lease_ms)
  if redis.call('HGET', key.worker(c, worker), 'channel') ~= args[4] then
    redis.call('HSET', key.worker(c, worker), 'channel', args[4])
  end
  redis.call('HDEL', key.worker(c, worker), 'silent_since')
  for _, of in ipairs({ key.held, key.live, key.worker }) do keep(c, of(c, worker)) end
  redis.call('ZREMRANGEBYSCORE', key.stops(c, worker), '-inf', c.now)
  local stops, held = redis.call('ZRANGE', key.stops(c, worker), 0, -1), {}
  for _, id in ipairs(redis.call('ZRANGE', key.held(c, worker), 0, -1)) do
    held[#held + 1] = id
    held[#held + 1] = tonumber(redis.call('HGET', key.request(c, id), 'ep') or '0')
  end
  return { 1, stops, held }
end

register('beat', beat, { 'allow-oom' })

-- worker
local function leave(c, args)
  if redis.call('ZSCORE', key.workers(c), args[3]) then end_lease(c, args[3], 'left', 'the worker left') end
  return OK
end

register('leave', leave, { 'allow-oom' })

-- How many suspects may run with one that is on this attempt, itself included.
local function together(c, attempt)
  local s = settings(c)
  return s.suspects_together[math.max(0, attempt - s.quarantine_from) + 1] or 1 -- below 0 after one was taken back
end

-- The request that the worker starts next, if any. May reserve a suspect for it, and ends overdue requests.
-- The requests that prefer another worker are added to `passed`, and are to be put back after the last call.
local function next_for(c, worker, model, passed)
  local known = redis.call('HMGET', key.worker(c, worker), 'suspects', 'suspects_max', 'reserved')
  local suspects, most, reserved = tonumber(known[1] or '0'), tonumber(known[2] or '0'), known[3]
  local busy = redis.call('EXISTS', key.held(c, worker)) == 1
  if (suspects > 0 and suspects >= most) or (reserved and busy) then return nil end
  while true do
    local r
    if reserved then r = load(c, reserved) else r = take(c, model) end
    if not r then return nil end
    local name = wrong_of_request(c, r.id)
    local due = redis.call('ZSCORE', key.deadlines(c), r.id)
    if name then
      c.wrong[#c.wrong + 1] = name
      abandon(c, r, name)
      reserved = nil
    elseif due and tonumber(due) <= c.now then
      expire(c, r)
      reserved = nil
    elseif r.m ~= model then
      return nil
    elseif not reserved and pass_over(c, r, preferred(c, r, worker, passed), passed) then
      -- the next request has its turn
    elseif suspects > 0 and not (r.qn and suspects < together(c, r.at + 1)) then
      enter_queue(c, r)
      return nil
    elseif r.qn and busy and suspects == 0 then
      -- A suspect might never meet an empty worker, so this worker is reserved for it and takes nothing else.
      redis.call('HSET', key.worker(c, worker), 'reserved', r.id)
      put(c, r, 'rv', worker)
      return nil
    else
      return r
    end
  end
end

local function claimed(c, r)
  local waited = math.max(0, c.now - tonumber(r.qa))
  local body = redis.call('GET', key.body(c, r.id))
  return { body, r.ep, r.at, r.qn and 1 or 0, waited, r.n, chunks(c, r.id, 0), r.cs or '' }
end

local function start(c, r, worker)
  note_conversation(c, r, worker)
  detach(c, r)
  -- At least the time, not just one more: Redis may have forgotten epochs that must never be used again.
  r.ep, r.at, r.h, r.st = math.max(r.ep + 1, c.now), r.at + 1, worker, 'r'
  r.ca, r.qt = c.now, (r.qt or 0) + math.max(0, c.now - r.qa)
  remember_claim(c, r, worker)
  r.nc, r.cn = (r.nc or 0) + 1, r.n
  put(c, r, 'cn', r.cn, 'ep', r.ep, 'at', r.at, 'h', worker, 'st', 'r', 'cs', r.cs, 'nc', r.nc, 'ca', r.ca, 'qt', r.qt)
  if not c.live_open then
    open_live(c, worker)
    c.live_open = true
  end
  write_live(c, r)
  keep(c, key.live(c, worker))
  local held = key.held(c, worker)
  redis.call('ZADD', held, redis.call('HINCRBY', key.counters(c), 'claims', 1), r.id)
  keep(c, held)
  for _, of in ipairs({ key.request, key.body }) do keep(c, of(c, r.id)) end
  if r.n > 0 then keep(c, key.log(c, r.id)) end
  if r.qn then
    local name, most = key.worker(c, worker), together(c, r.at)
    local suspects = redis.call('HINCRBY', name, 'suspects', 1)
    if suspects > 1 then most = math.min(most, tonumber(redis.call('HGET', name, 'suspects_max'))) end
    redis.call('HSET', name, 'suspects_max', most)
  end
  count(c, 'running', 1)
  note_claim(c, r.m)
end

-- The bytes of requests after which one claim hands out no more. By default Redis closes a connection that subscribes to
-- channels, as a worker's does, when 32 MiB of replies wait for it. One request has at most 16 MiB.
local CLAIM_BYTES = 8 * 1024 * 1024

-- worker, model, slots, nonce. A call with the same nonce returns the same claims, since the first reply may be lost.
-- Returns the claims, then the names of keys that have another type, and in how many ms the worker should look again, if
-- requests wait for another worker until then.
local function claim(c, args)
  local worker, nonce = args[3], args[6]
  notice_outage(c)
  local found = {}
  if not is_live(c, worker) then
    return found
  end
  local before = redis.call('HMGET', key.worker(c, worker), 'nonce', 'claimed')
  if before[1] == nonce then
    for id, epoch in string.gmatch(before[2], '(%S+) (%S+)') do
      local r = load(c, id)
      if r and r.h == worker and r.ep == tonumber(epoch) then found[#found + 1] = claimed(c, r) end
    end
    return found
  end
  local ids, bytes, passed = {}, 0, { left = {} }
  if redis.call('HGET', key.worker(c, worker), 'suspects') then
    note_room(c, worker, args[4], 0)
    return found
  end
  check_ledger(c)
  check_worker(c, worker)
  while #found < tonumber(args[5]) do
    local r = next_for(c, worker, args[4], passed)
    if not r then break end
    start(c, r, worker)
    found[#found + 1] = claimed(c, r)
    ids[#ids + 1] = r.id .. string.format(' %d', r.ep)
    bytes = bytes + tonumber(r.z)
    if bytes >= CLAIM_BYTES then
      notify_work(c, args[4]) -- the worker claims the rest by another call
      break
    end
  end
  if #ids > 0 then
    redis.call('HSET', key.worker(c, worker), 'nonce', nonce, 'claimed', table.concat(ids, ' '))
  end
  local known = redis.call('HMGET', key.worker(c, worker), 'suspects', 'reserved')
  note_room(c, worker, args[4], (known[1] or known[2]) and 0 or args[5] - #found)
  local look_again_ms = put_back_passed_over(c, passed)
  for _, name in ipairs(c.wrong) do found[#found + 1] = name end
  if look_again_ms then found[#found + 1] = look_again_ms end
  return found
end

register('claim', claim, { 'allow-oom' })

-- The answer to a writer whose claim is over. Only a repeated terminal event is accepted.
local function refuse(c, r, epoch, end_seq, last)
  if r.ep ~= epoch or r.st ~= 'e' then
    count(c, 'fenced_total', 1)
    return FENCED
  end
  if last and last ~= '' and tonumber(r.eb) == epoch and end_seq == r.n + 1 then
    local entry = redis.call('XREVRANGE', key.log(c, r.id), '+', '-', 'COUNT', 1)[1]
    if entry and entry[2][1] == 'e' and entry[2][2] == last then return OK end
  end
  return STOP
end

local APPENDS = { { 'XADD', '*', 'f', 'v' }, { 'HSET', 'f', 'v' }, { 'HINCRBY', 'f', 1 } }
local ENTRY = 7 -- how many values describe an entry of an append

-- The channels to push to, if `line` of the worker's hash says that the log has `length` tokens and this epoch; else nil.
local function as_expected(line, length, epoch)
  local expected = live_of(length, epoch, '')
  return line and string.sub(line, 1, #expected) == expected and string.sub(line, #expected + 1) or nil
end

-- Writes one entry. Returns a code, a number, and the new line of the worker's hash if the caller is to write the line.
local function append_one(c, worker, line, id, epoch, first, number, pushed, tokens, last)
  local channels, holder, r = as_expected(line, first - 1, epoch), worker, nil
  if not channels then
    r = load(c, id)
    if not r then return GONE, 0 end
    if first == 0 then first = r.n + 1 end
    if r.st ~= 'r' or r.ep ~= epoch then return refuse(c, r, epoch, first + number, last), 0 end
    if first > r.n + 1 then return GAP, r.n + 1 end
    if first < r.n + 1 then return OVERLAP, r.n end
    channels, holder = r.g, r.h
  end
  if last ~= '' then
    r = r or load(c, id)
    if not r then return GONE, 0 end
    check(c, r)
    check_usage(c)
  end
  local length = first + number - 1
  if number > 0 then
    local log = key.log(c, id)
    if first == 1 then redis.call('HSET', key.request(c, id), 'ft', c.now) end
    -- Redis refuses an id that is not newer than the last one.
    redis.call('XADD', log, length .. '-0', 't', tokens)
    if #tokens > number * settings(c).token_bytes then
      local more = note_bytes(c, id, number, tokens)
      if r then r.x = (r.x or 0) + more end
    end
    if first == 1 then keep(c, log, settings(c).key_ttl_ms) end
    c.written = (c.written or 0) + number
    push(c, channels, pushed)
  end
  if last ~= '' then
    r.n = length
    finish(c, r, last, epoch)
    return OK, 0
  end
  local now = live_of(length, epoch, channels)
  if holder == worker then return OK, 0, now end
  redis.call('HSET', key.live(c, holder), id, now)
  return OK, 0
end

-- worker or '' where it is not known; then packed, of each entry: id, epoch, seq of the first token or 0 for the next seq,
-- number of tokens, size of its push, size of the tokens within the push, size of its terminal event; then the pushes and
-- terminal events as bytes. No request comes twice. Returns the place, code and number of each entry that is not OK.
local function append(c, args)
  local worker, entries, bytes = args[3], cmsgpack.unpack(args[4]), args[5]
  check_rights(c, APPENDS) -- a log without its line in the worker's hash would refuse the same append for ever
  local at, told = 1, {}
  for from = 1, #entries, ENTRY * BATCH do
    local upto = math.min(from + ENTRY * BATCH, #entries + 1) - ENTRY
    local ids, lines = {}, {}
    for i = from, upto, ENTRY do ids[#ids + 1] = entries[i] end
    local live = redis.call('HMGET', key.live(c, worker), unpack(ids))
    for i = from, upto, ENTRY do
      local id, epoch, first, number, item, tokens, last = unpack(entries, i, i + ENTRY - 1)
      local ends = at + item
      local done, code, detail, line = pcall(append_one, c, worker, live[(i - from) / ENTRY + 1], id, epoch, first, number,
        string.sub(bytes, at, ends - 1),
        string.sub(bytes, ends - 1 - tokens, ends - 2),
        string.sub(bytes, ends, ends + last - 1))
      at = ends + last
      if not done and is_wrong_type(code) and wrong_of_request(c, id) then
        done, code, detail = true, WRONG, 0
      end
      if not done then
        -- An error in Lua. The entries before this one are in their logs already, so their lines are written too.
        if #lines > 0 then redis.call('HSET', key.live(c, worker), unpack(lines)) end
        if c.written then count(c, 'log_tokens', c.written) end
        commit(c)
        error(code)
      elseif line then
        lines[#lines + 1] = id
        lines[#lines + 1] = line
      elseif code ~= OK then
        for _, each in ipairs({ (i - 1) / ENTRY, code, detail }) do told[#told + 1] = each end
      end
    end
    if #lines > 0 then redis.call('HSET', key.live(c, worker), unpack(lines)) end
  end
  if c.written then count(c, 'log_tokens', c.written) end
  return told
end

register('append', append, { 'allow-oom' })

-- ids. Ends each request of which a key has another type.
local function abandon_wrong(c, args)
  for i = 3, #args do
    or_abandon(c, args[i], function()
      local r = load(c, args[i])
      if r and r.st ~= 'e' then check(c, r) end
    end)
  end
  return c.wrong
end

register('abandon_wrong', abandon_wrong, { 'allow-oom' })

-- id, epoch, how, cause
local function release(c, args)
  local id, epoch, how, cause = args[3], tonumber(args[4]), args[5], args[6]
  local r = load(c, id)
  if not r then return GONE end
  if not r.h or r.ep ~= epoch then return refuse(c, r, epoch) end
  redis.call('HDEL', key.worker(c, r.h), 'f:' .. r.m) -- the worker has no room until it claims again
  if how == 'silent' then
    remember_claim_end(c, r, 'handed_back', cause)
    detach(c, r)
    r.at = r.at - 1
    enqueue(c, r)
  elseif how == 'failed' then
    crash(c, r, 'crashed', cause)
  else
    give_up(c, r, 'BACKEND_FAILED', cause, cause, r.ep)
  end
  return OK
end

register('release', release, { 'allow-oom' })

-- models. Returns, of each queue that is not empty, its model, class and length, and how long its first request has waited.
local function demand(c, args)
  local found = {}
  for i = 3, #args do
    local model = args[i]
    for _, class in ipairs(redis.call('HKEYS', key.classes(c, model))) do
      local q, first, length = queue_of(c, { m = model, p = class }), nil, 0
      for _, member in ipairs(redis.call('ZRANGE', q.heads, 0, -1)) do
        length = length + redis.call('ZCARD', flow_of(c, { m = model, p = class, t = string.sub(member, 17) }))
        if not first or string.sub(member, 1, 16) < string.sub(first, 1, 16) then first = member end
      end
      local id = first and head_of(flow_of(c, { m = model, p = class, t = string.sub(first, 17) }))
      if id then
        -- A request that cannot be read any more counts too: only a claim, for which the model is loaded, removes it.
        local since = redis.pcall('HGET', key.request(c, id), 'qa')
        local waited = type(since) == 'string' and math.max(0, c.now - tonumber(since)) or 0
        for _, value in ipairs({ model, class, length, waited }) do found[#found + 1] = value end
      end
    end
  end
  return found
end

register('demand', demand, { 'no-writes' })
