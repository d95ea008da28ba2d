-- What operators see of requests and of the queue. No function changes a request.

-- What operators see of a request, in the order of `request_views.py:to_open_request`. Nil where there is no such request.

local VIEW_FIELDS = { 'm', 't', 'p', 'st', 'ad', 'n', 'at', 'ep', 'h', 'nc', 'us' }

local function view_of(c, id)
  local found = redis.pcall('HMGET', key.request(c, id), unpack(VIEW_FIELDS))
  if found.err or not found[4] then return nil end
  local live = found[9] and redis.pcall('HGET', key.live(c, found[9]), id)
  if type(live) == 'string' then found[6] = string.match(live, '^%d+ (%d+)') or found[6] end -- else as it was claimed
  for i = 1, #VIEW_FIELDS do found[i] = found[i] or '' end
  return { id, unpack(found) }
end

local OPEN_PAGE = 64 -- how many requests one call looks at: a view costs Redis 20 to 50 us

-- rank of the first request to look at, the most views to return, then the wanted state, tenant and model, each '' for any.
-- Returns the time in ms, how many requests have not ended, how many this call has looked at, how many of these are wanted,
-- then what operators see of the first ones of these. The oldest requests have the lowest ranks.
local function open_requests(c, args)
  local from, most, wanted, stale = tonumber(args[3]), tonumber(args[4]), 0, {}
  local ids = redis.call('ZRANGE', key.open(c), from, from + OPEN_PAGE - 1)
  local views = {}
  local function fits(known)
    for i = 1, 3 do
      if args[4 + i] ~= '' and args[4 + i] ~= known[i] then return false end
    end
    return true
  end
  for _, id in ipairs(ids) do
    local known = redis.pcall('HMGET', key.request(c, id), 'st', 't', 'm')
    if not known.err and (not known[1] or known[1] == 'e') then
      stale[#stale + 1] = id -- a node of an older version has ended it
    elseif not known.err and fits(known) then
      wanted = wanted + 1
      if #views < most then views[#views + 1] = view_of(c, id) end
    end
  end
  if #stale > 0 then redis.call('ZREM', key.open(c), unpack(stale)) end
  return { string.format('%.0f', c.now), redis.call('ZCARD', key.open(c)), #ids - #stale, wanted, unpack(views) }
end

register('open_requests', open_requests, { 'allow-oom' })

local FLOWS_PAGE, COSTS_LOOKED_AT = 24, 16

-- model, how many flows earlier calls have returned. Returns the time in ms, how many flows of the model this call has looked
-- at, then of each of these its class, tenant, length, cost, and when its first request was queued, in ms. Of a long flow, the
-- cost is estimated from its first requests.
local function queue_shares(c, args)
  local model, skip, looked = args[3], tonumber(args[4]), 0
  local found = { string.format('%.0f', c.now), 0 }
  local classes = redis.call('HKEYS', key.classes(c, model))
  table.sort(classes)
  for _, class in ipairs(classes) do
    local heads = redis.call('ZRANGE', key.heads(c, model, class), skip, skip + FLOWS_PAGE - looked - 1)
    skip = math.max(0, skip - redis.call('ZCARD', key.heads(c, model, class)))
    for _, member in ipairs(heads) do
      local tenant = string.sub(member, 17)
      local flow = flow_of(c, { m = model, p = class, t = tenant })
      local cost, known, first = 0, 0, nil
      for _, id in ipairs(redis.call('ZRANGE', flow, 0, COSTS_LOOKED_AT - 1)) do
        local values = redis.pcall('HMGET', key.request(c, id), 'c', 'qa')
        if not values.err and values[2] then
          cost, known = cost + tonumber(values[1]), known + 1
          first = math.min(first or math.huge, tonumber(values[2]))
        end
      end
      looked = looked + 1
      local length = redis.call('ZCARD', flow)
      if known > 0 then
        local total = string.format('%.17g', cost / known * length)
        for _, value in ipairs({ class, tenant, length, total, string.format('%.0f', first) }) do found[#found + 1] = value end
      end
    end
    if looked >= FLOWS_PAGE then break end
  end
  found[2] = looked
  return found
end

register('queue_shares', queue_shares, { 'no-writes' })

-- id. Returns the time in ms, what operators see of the request, the times of its first token and end, its last entry if
-- that is the terminal event, and its claims.
local function request_times(c, args)
  local view = view_of(c, args[3])
  if not view then return unknown(c, args[3]) end
  local times, last = redis.call('HMGET', key.request(c, args[3]), 'ft', 'et', 'cs'), ''
  if view[5] == 'e' then
    local entry = redis.call('XREVRANGE', key.log(c, args[3]), '+', '-', 'COUNT', 1)[1]
    if entry and entry[2][1] == 'e' then last = entry[2][2] end
  end
  return { 'known', string.format('%.0f', c.now), view, times[1] or '', times[2] or '', last, times[3] or '' }
end

register('request_times', request_times, { 'no-writes' })

-- packed charges, as in `limits.lua`, with a different key each. Returns the time in us, and how the caller stands with each.
local function standings(c, args)
  return { string.format('%.0f', c.now_us), select(2, limits.look(c, cmsgpack.unpack(args[3]), true)) }
end

register('standings', standings, { 'allow-oom' })
