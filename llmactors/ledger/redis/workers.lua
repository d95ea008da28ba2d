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
    redis.call('XADD', log, string.format('%d-0', length), 't', tokens)
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
    reopen_slot(c, holder, r.m)
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
        last > 0 and string.sub(bytes, ends, ends + last - 1) or '')
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
  offer_slots(c, r.h, r.m, 0)
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
