-- Offers: the free slots to which the ledger may hand requests before their worker asks again.
--
-- Like room, offers are hints, which reach neither the append-only file nor a replica. A worker makes an offer by each claim,
-- and the newest claim counts. A model's offers are in one sorted set, by the number of open slots. An offer of no slots is
-- no offer.

-- How many slots the worker offers; nil where the key has another type, which costs the hand-outs only.
local function offered(c, worker, model)
  local slots = redis.pcall('ZSCORE', key.offers(c, model), worker)
  if type(slots) == 'table' then return nil end
  return tonumber(slots or '0')
end

local function open_slots(c, worker, model) return offered(c, worker, model) or 0 end

local function offer_slots(c, worker, model, slots)
  local name, now = key.offers(c, model), offered(c, worker, model)
  if not now or now == slots then return end
  if slots > 0 then
    write_volatile('ZADD', name, slots, worker)
    if now > 0 then return end
    write_volatile('HSET', key.worker(c, worker), 'o:' .. model, 1)
    keep(c, name)
  else
    write_volatile('ZREM', name, worker)
  end
end

-- Opens the slot of a request that its worker has ended, if other slots of the worker are open. While none is, requests may
-- wait, and the worker claims for the slot in fair order.
local function reopen_slot(c, worker, model)
  redis.set_repl(redis.REPL_NONE)
  redis.pcall('ZADD', key.offers(c, model), 'XX', 'INCR', 1, worker)
  redis.set_repl(redis.REPL_ALL)
end

-- Withdraws all offers of a worker that takes no more requests.
local function withdraw_offers(c, worker)
  for _, name in ipairs(redis.call('HKEYS', key.worker(c, worker))) do
    if string.sub(name, 1, 2) == 'o:' then offer_slots(c, worker, string.sub(name, 3), 0) end
  end
end
