-- A running request gives its slot to a waiting request of a more urgent class: `core/preemption.py` in Lua.

-- The waiting request that a class would serve next.
local function next_of(c, model, class)
  local head = redis.call('ZRANGE', key.heads(c, model, class), 0, 0)[1]
  local id = head and head_of(flow_of(c, { m = model, p = class, t = string.sub(head, 17) }))
  return id and apart(c, wrong_of_request, id, load, c, id)
end

-- Whether a waiting request has waited for long enough, and may run beside others.
local function is_urgent(c, r)
  local due = redis.call('ZSCORE', key.deadlines(c), r.id)
  return not r.qn and not (due and tonumber(due) <= c.now) and c.now - tonumber(r.qa) >= settings(c).preempt_after_ms
    and not wrong_of_request(c, r.id)
end

local function may_give_way(c, r, worker, model, epoch, tokens)
  return r and r.h == worker and r.ep == epoch and r.n <= tokens and r.m == model and not r.qn
    and tonumber(r.pe or '0') < settings(c).preemptions_max
end

-- The waiting request and the running request that changes places with it, if any.
local function choose_pair(c, worker, model, offers)
  local classes = redis.call('HKEYS', key.classes(c, model))
  table.sort(classes, function(one, other) return tonumber(one) < tonumber(other) end)
  for _, class in ipairs(classes) do
    local waiting = next_of(c, model, class)
    if waiting and is_urgent(c, waiting) then
      for i = 1, #offers, 3 do
        local running = apart(c, wrong_of_request, offers[i], load, c, offers[i])
        if may_give_way(c, running, worker, model, offers[i + 1], offers[i + 2])
          and tonumber(running.p) > tonumber(class) then
          return waiting, running
        end
      end
    end
  end
end

-- worker, model, nonce, packed: id, epoch and greatest length of the log of each request that the worker would give up, the
-- best first. A call with the same nonce returns the same, since the first reply may be lost.
-- Returns nothing; or the id that gave way, and the claim that has its slot.
local function preempt(c, args)
  local worker, model, nonce, offers = args[3], args[4], args[5], cmsgpack.unpack(args[6])
  local s, last = settings(c), 'p:' .. model
  notice_outage(c)
  if s.preempt_after_ms == 0 or not is_live(c, worker) then return {} end
  local known = redis.call('HMGET', key.worker(c, worker), 'nonce', 'claimed', 'suspects', 'reserved', 'gave')
  if known[1] == nonce then
    local id, epoch = string.match(known[2], '(%S+) (%S+)')
    local r = load(c, id)
    return r and r.h == worker and r.ep == tonumber(epoch) and { known[5], claimed(c, r) } or {}
  end
  if known[3] or known[4] then return {} end
  local at = tonumber(redis.call('HGET', key.counters(c), last) or '-inf')
  if at <= c.now and c.now - at < 1000 / s.preemptions_per_s then return {} end -- the clock may have been set back
  local waiting, running = choose_pair(c, worker, model, offers)
  if not waiting then return {} end
  check(c, waiting)
  check(c, running)
  redis.call('HSET', key.counters(c), last, c.now)
  redis.call('HINCRBY', key.request(c, running.id), 'pe', 1)
  serve_next(c, waiting)
  remember_claim_end(c, running, 'preempted', '')
  detach(c, running)
  running.at = running.at - 1
  enqueue(c, running)
  start(c, waiting, worker)
  local claim = waiting.id .. string.format(' %d', waiting.ep)
  redis.call('HSET', key.worker(c, worker), 'nonce', nonce, 'claimed', claim, 'gave', running.id)
  return { running.id, claimed(c, waiting) }
end

register('preempt', preempt, { 'allow-oom' })
