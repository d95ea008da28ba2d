-- The queues: `core/model_queues.py`, `core/class_queue.py` and `core/fair_queue.py` in Lua.

local function queue_of(c, r)
  return {
    classes = key.classes(c, r.m),
    heads = key.heads(c, r.m, r.p),
    tags = key.tags(c, r.m, r.p),
  }
end

local function flow_of(c, r) return key.waiting(c, r.p, #r.m, r.m, r.t) end

local function virtual(q) return tonumber(redis.call('HGET', q.tags, 'v') or '0') end

-- The virtual time, and a tenant's finish tag.
local function tags_of(q, tenant)
  local tags = redis.call('HMGET', q.tags, 'v', 't' .. tenant)
  return tonumber(tags[1] or '0'), tonumber(tags[2] or '0')
end

local function head_of(flow)
  local head = redis.call('ZRANGE', flow, 0, 0, 'WITHSCORES')
  return head[1], tonumber(head[2])
end

-- Adds the first request of a tenant to the heads. `start` is its start tag, if it has one.
local function show_head(q, tenant, serial, start)
  start = start or redis.call('HGET', q.tags, 't' .. tenant)
  redis.call('ZADD', q.heads, start, string.format(SERIAL, serial) .. tenant)
end

local function enter_queue(c, r)
  local q, flow = queue_of(c, r), flow_of(c, r)
  local old, old_serial = head_of(flow)
  if not old then
    redis.call('HSET', q.tags, 't' .. r.t, math.max(tags_of(q, r.t)))
  end
  if r.s then
    -- The virtual time may have restarted since; an old tag must not be later than the present.
    r.s = math.min(tonumber(r.s), virtual(q))
    put(c, r, 's', r.s)
  end
  redis.call('ZADD', flow, r.sn, r.id)
  redis.call('HSETNX', q.classes, r.p, 0)
  if not old or tonumber(r.sn) < old_serial then
    if old then redis.call('ZREM', q.heads, string.format(SERIAL, old_serial) .. r.t) end
    show_head(q, r.t, r.sn, r.s)
  end
  r.taken = nil
  for _, name in ipairs({ flow, q.classes, q.heads, q.tags }) do keep(c, name) end
end

local function forget_past_tags(q)
  local heads = redis.call('ZCARD', q.heads)
  if redis.call('HLEN', q.tags) <= 2 * heads + 64 then return end
  local now, waiting = virtual(q), {}
  for _, member in ipairs(redis.call('ZRANGE', q.heads, 0, -1)) do waiting['t' .. string.sub(member, 17)] = true end
  local all = redis.call('HGETALL', q.tags)
  for i = 1, #all, 2 do
    if all[i] ~= 'v' and not waiting[all[i]] and tonumber(all[i + 1]) <= now then redis.call('HDEL', q.tags, all[i]) end
  end
end

-- Removes a request from its queue. A request that `take` chose is in no queue, though it still waits.
local function leave_queue(c, r)
  if r.taken then return end
  local q, flow = queue_of(c, r), flow_of(c, r)
  local old, old_serial = head_of(flow)
  if redis.call('ZREM', flow, r.id) == 0 then return end
  if old == r.id then
    redis.call('ZREM', q.heads, string.format(SERIAL, old_serial) .. r.t)
    local new, new_serial = head_of(flow)
    if new then show_head(q, r.t, new_serial, redis.call('HGET', key.request(c, new), 's')) end
  end
  if redis.call('EXISTS', q.heads) == 0 then
    -- Nothing waits: the next busy period begins without tags and without memory of tenants.
    redis.call('DEL', q.tags)
    redis.call('HDEL', q.classes, r.p)
  elseif redis.call('EXISTS', flow) == 0 then
    forget_past_tags(q)
  end
end

-- The next class, and how often it was passed over.
local function next_class(classes)
  local lowest, longest, passed, times = nil, nil, 0, -1
  for i = 1, #classes, 2 do
    local class, over = tonumber(classes[i]), tonumber(classes[i + 1])
    if not lowest or class < lowest then lowest, passed = class, over end
    if over > times or (over == times and class < longest) then longest, times = class, over end
  end
  if times >= PASSED_OVER_MAX then return longest, times end
  return lowest, passed
end

-- Takes the first request of the flow whose head is the first of the heads out of its queue.
local function serve(c, q, r, start)
  put(c, r, 's', start)
  r.s = start
  local now, tag = tags_of(q, r.t)
  redis.call('HSET', q.tags, 'v', math.max(now, start), 't' .. r.t, math.max(tag, start + tonumber(r.c)))
  leave_queue(c, r)
  r.taken = true
end

local function take(c, model)
  local classes_key = key.classes(c, model)
  local classes = redis.call('HGETALL', classes_key)
  if #classes == 0 then return nil end
  local chosen, passed = next_class(classes)
  local others = {}
  for i = 1, #classes, 2 do
    if tonumber(classes[i]) ~= chosen then
      redis.call('HINCRBY', classes_key, classes[i], 1)
      others[#others + 1] = classes[i]
    end
  end
  if passed > 0 then redis.call('HSET', classes_key, chosen, 0) end
  local q = queue_of(c, { m = model, p = chosen })
  local head = redis.call('ZRANGE', q.heads, 0, 0, 'WITHSCORES')
  if not head[1] then
    redis.call('HDEL', classes_key, chosen) -- the class has no queue any more
    return take(c, model)
  end
  local start, tenant = tonumber(head[2]), string.sub(head[1], 17)
  local id = head_of(flow_of(c, { m = model, p = chosen, t = tenant }))
  local r = id and apart(c, wrong_of_request, id, load, c, id)
  if not r then
    redis.call('ZREM', q.heads, head[1])
    if id then redis.call('ZREM', flow_of(c, { m = model, p = chosen, t = tenant }), id) end
    return take(c, model)
  end
  serve(c, q, r, start)
  r.others, r.passed = others, passed
  return r
end

-- Takes the next request of its class out of its queue, without a turn for the class.
local function serve_next(c, r)
  local q = queue_of(c, r)
  serve(c, q, r, tonumber(redis.call('ZRANGE', q.heads, 0, 0, 'WITHSCORES')[2]))
end

-- Takes back the turn in which `take` has just chosen a request, because the request is passed over.
local function undo_turn(c, r)
  local classes = key.classes(c, r.m)
  for _, class in ipairs(r.others) do redis.call('HINCRBY', classes, class, -1) end
  if redis.call('HGET', classes, r.p) then redis.call('HSET', classes, r.p, r.passed) end
end

-- Puts a request whose turn was taken back into its old place.
local function put_back_unserved(c, r)
  local is_new = not redis.call('HGET', key.classes(c, r.m), r.p)
  enter_queue(c, r)
  if is_new then redis.call('HSET', key.classes(c, r.m), r.p, r.passed) end
end

-- How fast the queue of a model moves: `core/service_rate.py` in Lua.

local RATE_WINDOW_MS, LEAST_MS = 5000, 200

local function begin_rate(c, model)
  local name = key.claim_rate(c, model)
  redis.call('HSETNX', name, 'waiting', c.now)
  keep(c, name)
end

local function note_claim(c, model)
  local name = key.claim_rate(c, model)
  if redis.call('EXISTS', key.classes(c, model)) == 0 then return end
  local since = tonumber(redis.call('HGET', name, 'since'))
  if not since then
    redis.call('HSET', name, 'since', c.now, 'count', 0)
    keep(c, name)
    return
  end
  local counted = redis.call('HINCRBY', name, 'count', 1)
  local elapsed = c.now - since
  if elapsed >= RATE_WINDOW_MS then redis.call('HSET', name, 'since', c.now, 'count', 0, 'before', counted / elapsed) end
end

local function per_ms(c, model)
  local known = redis.call('HMGET', key.claim_rate(c, model), 'since', 'count', 'before', 'waiting')
  local since = known[1] or known[4]
  if not since then return nil end
  local elapsed, counted = c.now - since, tonumber(known[2] or '0')
  if known[3] then return (counted + known[3] * RATE_WINDOW_MS) / (elapsed + RATE_WINDOW_MS) end
  return elapsed >= LEAST_MS and math.max(counted, 1) / elapsed or nil
end

local function ahead_in(c, model, class, tenant)
  local q = queue_of(c, { m = model, p = class })
  local function waiting(of) return redis.call('ZCARD', flow_of(c, { m = model, p = class, t = of })) end
  local own = tenant and waiting(tenant)
  local ahead = own or 0
  for _, member in ipairs(redis.call('ZRANGE', q.heads, 0, -1)) do
    local other = string.sub(member, 17)
    if other ~= tenant then ahead = ahead + (own and math.min(waiting(other), own + 1) or waiting(other)) end
  end
  return ahead
end
