-- What operators call.

local function stats(c, args)
  local found = redis.call('HGETALL', key.counters(c))
  for _, name in ipairs({ 'ended', 'workers' }) do
    found[#found + 1] = name
    found[#found + 1] = redis.call('ZCARD', key[name](c))
  end
  found[#found + 1] = 'dead_letters'
  found[#found + 1] = redis.call('XLEN', key.dead_letters(c))
  return found
end

register('stats', stats, { 'no-writes' })

-- A request that is reserved to a worker waits too, but in no flow.
local function reserved_requests(c)
  local found = {}
  for _, worker in ipairs(redis.call('ZRANGE', key.workers(c), 0, -1)) do
    local id = redis.call('HGET', key.worker(c, worker), 'reserved')
    local r = id and load(c, id)
    if r and r.rv == worker then found[#found + 1] = r end
  end
  return found
end

-- cursor: '0' at first, then the one that the last call returned, until that is '0' again.
-- Returns the next cursor, then of each flow its key, model, class and length. A flow may come twice, in two calls.
local function queue_depths(c, args)
  local next_cursor, flows = unpack(redis.call('SCAN', args[3], 'MATCH', key.waiting(c, '*', '*', '*', '*'), 'COUNT', 1000))
  local found = { next_cursor }
  local function add(name, r, length)
    for _, value in ipairs({ name, r.m, r.p, length }) do found[#found + 1] = value end
  end
  for _, flow in ipairs(flows) do
    local id = head_of(flow)
    local r = id and load(c, id)
    if r then add(flow, r, redis.call('ZCARD', flow)) end
  end
  if args[3] == '0' then
    for _, r in ipairs(reserved_requests(c)) do add(key.request(c, r.id), r, 1) end
  end
  return found
end

register('queue_depths', queue_depths, { 'no-writes' })

local function dead_letters(c, args)
  return redis.call('XRANGE', key.dead_letters(c), '-', '+')
end

register('dead_letters', dead_letters, { 'no-writes' })

-- The entries that no call returned before.
local function take_new_dead_letters(c, args)
  local counters = key.counters(c)
  local last = redis.call('HGET', counters, 'last_taken_letter')
  local found = redis.call('XRANGE', key.dead_letters(c), last and '(' .. last or '-', '+', 'COUNT', BATCH)
  if #found > 0 then
    check_ledger(c)
    redis.call('HSET', counters, 'last_taken_letter', found[#found][1])
    keep(c, counters)
  end
  return found
end

register('take_new_dead_letters', take_new_dead_letters, { 'allow-oom' })

-- the dead letter's entry; of the new request: id, body, model, tenant, class, cost, bytes, deadline or '', grace, retention
-- or '', conversation or '', usage.
local function requeue(c, args)
  local entry, id, body, fields = args[3], args[4], args[5], { unpack(args, 6) }
  local letters = key.dead_letters(c)
  if #redis.call('XRANGE', letters, entry, entry) == 0 then return 'unknown' end
  local known = known_before(c, id, body)
  if known then return known end
  if not has_room(c, 1, fields[5]) then return 'overloaded' end
  enqueue(c, create(c, id, body, fields, ''))
  redis.call('XDEL', letters, entry)
  return 'accepted'
end

register('requeue', requeue, {})

-- the dead letters' entries
local function purge(c, args)
  return redis.call('XDEL', key.dead_letters(c), unpack(args, 3))
end

register('purge', purge, { 'allow-oom' })
