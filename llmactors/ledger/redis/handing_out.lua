-- Handing out: the call that puts a request into the queue starts it for a worker whose slots are open.
--
-- The worker gets the claim by a message on its channel. If the message is lost, the next claim of the worker returns what
-- the worker was not told of. What cannot be handed out stays in the queue, and the workers are told to claim.

-- Whether the worker may be handed a request now. A worker that is not connected would not hear of it, and one that has been
-- silent for half a lease may be stopped.
local function may_be_handed(c, worker)
  local due = redis.call('ZSCORE', key.workers(c), worker)
  if not due or tonumber(due) < c.now + settings(c).lease_ms / 2 then return false end
  if not pcall(check_worker, c, worker) then return false end
  local known = redis.call('HMGET', key.worker(c, worker), 'channel', 'suspects', 'reserved')
  return known[1] and not known[2] and not known[3] and is_connected(known[1]) and known[1] or false
end

-- The worker with the most open slots, its channel, and how many slots; nil where none has any. Forgets other offers.
local function best_offer(c, model)
  while true do
    local best = redis.pcall('ZREVRANGE', key.offers(c, model), 0, 0, 'WITHSCORES')
    if not best[1] then return nil end
    local channel = may_be_handed(c, best[1])
    if channel then return best[1], channel, tonumber(best[2]) end
    write_volatile('ZREM', key.offers(c, model), best[1])
  end
end

-- The worker that gets the request, its channel and how many of its slots are open: the worker with the most open slots, or
-- the one that the request prefers. Nil where the request has to wait for a worker that it prefers.
local function choose_offer(c, r, worker, channel, slots)
  local other = preferred(c, r, worker, { left = {} })
  if not other then return worker, channel, slots end
  local open = redis.call('ZSCORE', key.offers(c, r.m), other)
  channel = open and may_be_handed(c, other)
  if not channel then return nil end
  return other, channel, tonumber(open)
end

-- A value of a message, behind its length.
local function field(value)
  value = type(value) == 'number' and string.format('%.0f', value) or value
  return struct.pack('>I4', #value) .. value
end

-- The bytes of one claim for a message: nine fields as in `claimed`, where the number of chunks stands for the chunks, and
-- then the chunks.
local function claim_bytes(claim)
  local parts, chunks_of = {}, claim[7]
  claim[7] = #chunks_of
  for _, each in ipairs(claim) do parts[#parts + 1] = field(each) end
  for _, each in ipairs(chunks_of) do parts[#parts + 1] = field(each) end
  return table.concat(parts)
end

-- The messages that the call has noted, one to each worker.
function handing_out.tell(c)
  for _, each in pairs(c.handed) do
    local head = field(each.worker) .. field(each.model) .. field(each.open)
    redis.call('PUBLISH', each.channel, 'h' .. head .. table.concat(each))
  end
end

-- Starts the request for the worker, and notes the message.
local function give(c, r, worker, channel, slots)
  start(c, r, worker)
  offer_slots(c, worker, r.m, slots - 1)
  local name = worker .. '\n' .. r.m
  local message = c.handed[name]
  if not message then
    message = { channel = channel, worker = worker, model = r.m }
    c.handed[name] = message
  end
  message.open = slots - 1
  message[#message + 1] = claim_bytes(claimed(c, r))
end

-- Hands out a new request, for whose model nothing waits: the request need not be put into the queue and taken out again.
-- Returns whether the request was handed out.
function handing_out.new(c, r)
  if r.at + 1 >= settings(c).quarantine_from or (r.due and r.due <= c.now) then return false end
  local worker, channel, slots = best_offer(c, r.m)
  if not worker or redis.call('EXISTS', key.classes(c, r.m)) == 1 then return false end
  r.qa = c.now
  worker, channel, slots = choose_offer(c, r, worker, channel, slots)
  if not worker then return false end
  r.s = 0 -- the start tag of the first request of a busy period
  put(c, r, 's', r.s, 'qa', r.qa)
  give(c, r, worker, channel, slots)
  return true
end

-- Hands out what waits for `model`. Returns whether something is left for the workers to claim.
local function hand_out_model(c, model)
  while true do
    local worker, channel, slots = best_offer(c, model)
    if not worker then return true end
    if not pcall(check_ledger, c) then return true end
    local r = take(c, model)
    if not r then return false end
    local name = wrong_of_request(c, r.id)
    local due = redis.call('ZSCORE', key.deadlines(c), r.id)
    if name then
      c.wrong[#c.wrong + 1] = name
      abandon(c, r, name)
    elseif due and tonumber(due) <= c.now then
      expire(c, r)
    else
      if r.qn then
        worker = nil -- only an empty worker may get a suspect, and it claims it
      else
        worker, channel, slots = choose_offer(c, r, worker, channel, slots)
      end
      if not worker then
        undo_turn(c, r)
        put_back_unserved(c, r)
        begin_rate(c, model)
        return true
      end
      give(c, r, worker, channel, slots)
    end
  end
end

-- `c.works` are the models for which something was put into a queue. What is left of them afterwards is announced.
function handing_out.waiting(c)
  local models = {}
  for model in pairs(c.works) do models[#models + 1] = model end
  for _, model in ipairs(models) do
    if not hand_out_model(c, model) then c.works[model] = nil end
  end
end
