-- The preference of a request for the worker that had its conversation last: `core/conversations.py` and
-- `core/passed_over.py` in Lua.
--
-- The last workers of conversations are hints, which reach neither the append-only file nor a replica. Each hash has those
-- of a period, which is half of the time that they are kept. A full hash takes no more conversations.

local function period_of(c) return math.floor(c.now / (settings(c).conversation_kept_ms / 2)) end

local function conversation_of(r) return (string.gsub(r.cv, '^%+', '')) end

local function note_conversation(c, r, worker)
  if not r.cv then return end
  local s, conversation = settings(c), conversation_of(r)
  local name = key.conversations(c, string.format('%d', period_of(c)), r.m)
  local known = redis.pcall('HLEN', name) -- a key of another type costs the preference only
  if type(known) ~= 'number' then return end
  if known >= s.conversations_max / 2 and not redis.call('HGET', name, conversation) then return end
  write_volatile('HSET', name, conversation, worker)
  if known == 0 then write_volatile('PEXPIRE', name, s.conversation_kept_ms) end
end

local function last_worker(c, r)
  local period, conversation = period_of(c), conversation_of(r)
  for each = period, period - 1, -1 do
    local worker = redis.pcall('HGET', key.conversations(c, string.format('%d', each), r.m), conversation)
    if type(worker) == 'string' then return worker end
  end
end

-- How many more requests for a model the worker could have taken in its last claim; or how many slots it offers.
local function room_of(c, worker, model)
  local room = redis.pcall('HGET', key.worker(c, worker), 'f:' .. model)
  return type(room) == 'string' and tonumber(room) or open_slots(c, worker, model)
end

-- Notes the room of a worker that offers no slots; nil where it does.
local function note_room(c, worker, model, room)
  local name, now = key.worker(c, worker), redis.pcall('HGET', key.worker(c, worker), 'f:' .. model)
  if type(now) == 'table' or (now and tonumber(now)) == (room or false) then return end
  if room then write_volatile('HSET', name, 'f:' .. model, room) else write_volatile('HDEL', name, 'f:' .. model) end
end

-- Another live worker for which the request waits a moment, if that worker has room. `passed.left` says how much room each
-- worker has left, after the requests that the same claim has passed over.
local function preferred(c, r, worker, passed)
  if not r.cv or string.sub(r.cv, 1, 1) ~= '+' or r.qn then return nil end
  local waited = c.now - tonumber(r.qa) -- below 0 after the clock was set back
  if waited < 0 or waited >= settings(c).affinity_wait_ms then return nil end
  local other = last_worker(c, r)
  if not other or other == worker then return nil end
  local due = redis.call('ZSCORE', key.workers(c), other)
  if not due or tonumber(due) <= c.now then return nil end
  local held = redis.pcall('ZCARD', key.held(c, other)) -- nothing may fail here: requests were taken out of the queue
  if type(held) ~= 'number' then return nil end
  if held - redis.call('ZCARD', key.held(c, worker)) > settings(c).affinity_lead_max then return nil end
  passed.left[other] = passed.left[other] or room_of(c, other, r.m)
  return passed.left[other] > 0 and other or nil
end

-- Passes the request over for the worker `other`, if there is one. Returns whether there is.
local function pass_over(c, r, other, passed)
  if not other then return false end
  passed.left[other] = passed.left[other] - 1
  passed[#passed + 1] = r
  undo_turn(c, r)
  return true
end

-- Puts back what a claim has passed over. Returns in how many ms the first preference ends; nil where nothing was passed
-- over.
local function put_back_passed_over(c, passed)
  local first
  for _, r in ipairs(passed) do
    put_back_unserved(c, r)
    begin_rate(c, r.m)
    first = math.min(first or math.huge, tonumber(r.qa))
  end
  return first and math.max(0, first + settings(c).affinity_wait_ms - c.now)
end
