-- Claims: what a worker gets when it asks. `handing_out.lua` has what it gets without asking.

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

-- A claim as its worker gets it. The last value is the order of the claim among all claims of the ledger.
local function claimed(c, r)
  local waited = math.max(0, c.now - tonumber(r.qa))
  local body = r.body or redis.call('GET', key.body(c, r.id))
  local order = r.order or tonumber(redis.call('ZSCORE', key.held(c, r.h), r.id))
  return { body, r.ep, r.at, r.qn and 1 or 0, waited, r.n, r.n > 0 and chunks(c, r.id, 0) or {}, r.cs or '', order }
end

-- Starts a request that waits, or a new one that is in no queue yet.
local function start(c, r, worker)
  note_conversation(c, r, worker)
  if r.st == 'q' then detach(c, r) end
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
  r.order = redis.call('HINCRBY', key.counters(c), 'claims', 1)
  redis.call('ZADD', held, r.order, r.id)
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

-- The claims of the worker that are newer than the newest claim that it knows: a reply or a message was lost, or is on its way.
local function untold(c, worker, known)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.held(c, worker), '(' .. known, '+inf')) do
    local r = apart(c, wrong_of_request, id, load, c, id)
    if r and r.h == worker then found[#found + 1] = claimed(c, r) end
  end
  return found
end

local function newest_claim(c) return tonumber(redis.call('HGET', key.counters(c), 'claims') or '0') end

-- worker, model, slots, nonce, how many slots may stay open, order of the newest claim that the
-- worker knows. A call with the same nonce returns the same claims, since the first reply may be lost.
-- Returns how many slots are open now, the order of the ledger's newest claim, and the claims; then the names of keys that have another type, and in how many ms the
-- worker should look again, if requests wait for another worker until then.
local function claim(c, args)
  local worker, model, slots, nonce = args[3], args[4], tonumber(args[5]), args[6]
  notice_outage(c)
  if not is_live(c, worker) then return { 0, newest_claim(c) } end
  local found = untold(c, worker, args[8])
  local before = redis.call('HMGET', key.worker(c, worker), 'nonce', 'suspects')
  if before[1] == nonce then return { open_slots(c, worker, model), newest_claim(c), unpack(found) } end
  if before[2] then
    note_room(c, worker, model, 0)
    offer_slots(c, worker, model, 0)
    return { 0, newest_claim(c), unpack(found) }
  end
  check_ledger(c)
  check_worker(c, worker)
  local ids, bytes, passed = {}, 0, { left = {} }
  while #found < slots do
    local r = next_for(c, worker, model, passed)
    if not r then break end
    start(c, r, worker)
    found[#found + 1] = claimed(c, r)
    ids[#ids + 1] = r.id .. string.format(' %d', r.ep)
    bytes = bytes + tonumber(r.z)
    if bytes >= CLAIM_BYTES then
      notify_work(c, model) -- the worker claims the rest by another call
      break
    end
  end
  if #ids > 0 then
    redis.call('HSET', key.worker(c, worker), 'nonce', nonce, 'claimed', table.concat(ids, ' '))
  end
  local known = redis.call('HMGET', key.worker(c, worker), 'suspects', 'reserved')
  local room = (known[1] or known[2]) and 0 or math.max(0, slots - #found)
  local open = bytes < CLAIM_BYTES and math.min(room, tonumber(args[7])) or 0
  note_room(c, worker, model, open == 0 and room or nil)
  offer_slots(c, worker, model, open)
  local look_again_ms = put_back_passed_over(c, passed)
  for _, name in ipairs(c.wrong) do found[#found + 1] = name end
  if look_again_ms then found[#found + 1] = look_again_ms end
  return { open, newest_claim(c), unpack(found) }
end

register('claim', claim, { 'allow-oom' })
