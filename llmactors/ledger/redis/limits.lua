-- What callers have used: `limiter/gcra.py`, `fixed_window.py`, `permits.py` and `store.py` in Lua.
--
-- A charge is { key, kind, amount, most, period in us, cost, in what it is settled at the end: 1 tokens or a permit, 2
-- money, nil not at all }. Under its key is a hash of one state (`at`, `used`, `returned`, `born`), or for permits a zset:
-- request -> when its permit is forgotten, in ms. All of them have a time to live. A hold, which a request keeps until its end, is the charge and the state right after the charge.
-- Numbers are whole, and below 2^53 for sensible limits. Beyond 2^53 they only lose their last digits.

local GCRA, PERMIT, MONTH = 0, 2, 3
local MONEY = 2
local DAY_US = 86400000000
local MONTH_DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
local LINGER_MS = 60000 -- how long a state is kept after it has no effect, since clocks differ a little
local PERMIT_WAIT_US = 1000000

local function digits(number) return string.format('%.0f', number) end

local function name_of(c, charge) return key.limit(c, charge[1]) end

local function is_leap(year) return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) end

-- When the month of UTC ends to which a moment belongs.
local function month_end(now)
  local today, day, year = math.floor(now / DAY_US), 0, 1970
  while today >= day + (is_leap(year) and 366 or 365) do
    day = day + (is_leap(year) and 366 or 365)
    year = year + 1
  end
  for month, days in ipairs(MONTH_DAYS) do
    day = day + days + ((month == 2 and is_leap(year)) and 1 or 0)
    if today < day then return day * DAY_US end
  end
end

local function window_end(charge, now)
  if charge[2] == MONTH then return month_end(now) end
  return now - now % charge[5] + charge[5]
end

-- The state under a charge's key, read once per call, as nobody else writes during a call.
local function read(c, charge)
  c.states = c.states or {}
  local known = c.states[charge[1]]
  if known ~= nil then return known or nil end
  c.states[charge[1]] = false
  local found = redis.call('HMGET', name_of(c, charge), 'at', 'used', 'returned', 'born')
  if not found[1] then return nil end
  local s = { at = tonumber(found[1]), used = tonumber(found[2]), returned = tonumber(found[3]), born = tonumber(found[4]) }
  if s.at - c.now_us > charge[5] then
    -- The server's clock was far ahead when this state was written, so the caller would be refused for that long. What
    -- was used counts as used now. The corrected state is written here, since a refusal writes nothing.
    s.at = charge[2] == GCRA and c.now_us or window_end(charge, c.now_us)
    redis.call('HSET', name_of(c, charge), 'at', digits(s.at))
  end
  c.states[charge[1]] = s
  return s
end

local function write(c, charge, s)
  local name, recovers = name_of(c, charge), s.at
  c.states[charge[1]] = s
  if charge[2] == GCRA then recovers = s.at + math.ceil(s.used / charge[3]) end
  redis.call('HSET', name, 'at', digits(s.at), 'used', digits(s.used), 'returned', digits(s.returned), 'born', digits(s.born))
  redis.call('PEXPIRE', name, digits(math.max(0, math.ceil((recovers - c.now_us) / 1000)) + LINGER_MS))
end

local function level(charge, s, now)
  return s and math.max(0, s.used - math.max(0, now - s.at) * charge[3]) or 0
end

local function window(charge, s, now)
  if s and now < s.at then return s end
  return { at = window_end(charge, now), used = 0, returned = 0, born = 0 }
end

local function opened(c, charge)
  redis.call('ZREMRANGEBYSCORE', name_of(c, charge), '-inf', c.now)
  return redis.call('ZCARD', name_of(c, charge))
end

local function spend(c, charge, s, cost)
  local now = c.now_us
  if charge[2] ~= GCRA then
    local present = window(charge, s, now)
    return { at = present.at, used = present.used + cost, returned = 0, born = 0 }
  end
  local used = level(charge, s, now) + cost * charge[5]
  if not s then return { at = now, used = used, returned = 0, born = now } end
  return { at = math.max(now, s.at), used = used, returned = s.returned, born = s.born }
end

-- How long to wait until the charge can be made: 0 for now, nil for never.
local function wait_us(c, charge, s)
  local cost, most, now = charge[6], charge[4], c.now_us
  if cost > most then return nil end
  if cost == 0 then return 0 end
  if charge[2] == PERMIT then return s + cost > most and PERMIT_WAIT_US or 0 end
  if charge[2] ~= GCRA then
    local present = window(charge, s, now)
    return present.used + cost > most and present.at - now or 0
  end
  local over = level(charge, s, now) + (cost - most) * charge[5]
  if over <= 0 then return 0 end
  return math.ceil(over / charge[3]) + (s and math.max(0, s.at - now) or 0)
end

-- Whether all charges can be made together, and of each key how long to wait (-1 for ever) and its state after that.
-- With `free`, as if the charges cost nothing.
local function look(c, charges, free)
  local order, together, admitted, said = {}, {}, true, {}
  for _, charge in ipairs(charges) do
    local known = together[charge[1]]
    if not known then
      known = { unpack(charge) }
      known[6] = 0
      together[charge[1]] = known
      order[#order + 1] = known
    end
    if not free then known[6] = known[6] + charge[6] end
  end
  for _, charge in ipairs(order) do
    if charge[2] == PERMIT then charge.state = opened(c, charge) else charge.state = read(c, charge) end
    charge.wait = wait_us(c, charge, charge.state)
    admitted = admitted and charge.wait == 0
  end
  for _, charge in ipairs(order) do
    local s = charge.state
    if charge[2] == PERMIT then
      s = { at = 0, used = s + (admitted and charge[6] or 0), returned = 0, born = 0 }
    elseif admitted and charge[6] > 0 then
      s = spend(c, charge, s, charge[6])
    end
    local answer = { digits(charge.wait or -1) }
    if s then answer = { answer[1], digits(s.at), digits(s.used), digits(s.returned), digits(s.born) } end
    said[#said + 1] = answer
  end
  return admitted, said
end

-- Makes the charges of one request, within limits or beyond them. Returns what is to be settled at its end.
local function charge_all(c, id, charges, key_ttl_ms)
  local holds = {}
  for _, charge in ipairs(charges) do
    if charge[2] == PERMIT then
      redis.call('ZADD', name_of(c, charge), c.now + key_ttl_ms, id)
      redis.call('PEXPIRE', name_of(c, charge), key_ttl_ms)
      holds[#holds + 1] = charge
    else
      local s = spend(c, charge, read(c, charge), charge[6])
      write(c, charge, s)
      if charge[7] then
        charge[8], charge[9], charge[10], charge[11] = digits(s.at), digits(s.used), digits(s.returned), digits(s.born)
        holds[#holds + 1] = charge
      end
    end
  end
  return holds
end

local function give_back(c, charge, s, unused)
  local now = c.now_us
  local at, used, returned, born = tonumber(charge[8]), tonumber(charge[9]), tonumber(charge[10]), tonumber(charge[11])
  if charge[2] ~= GCRA then
    if s.at ~= at then return nil end
    return { at = s.at, used = math.max(0, s.used - unused), returned = 0, born = 0 }
  end
  if s.born ~= born then return nil end
  -- At most what is still in the bucket of this charge.
  local still_in = used - math.max(0, math.max(now, s.at) - at) * charge[3] - (s.returned - returned) * charge[5]
  local back = math.max(0, math.min(unused, math.floor(still_in / charge[5])))
  local left = level(charge, s, now) - back * charge[5]
  return { at = math.max(now, s.at), used = left, returned = s.returned + back, born = s.born }
end

-- `used` is from `used_by`.
local function settle(c, id, holds, used)
  for _, charge in ipairs(holds) do
    if charge[2] == PERMIT then
      redis.call('ZREM', name_of(c, charge), id)
    else
      local spent = charge[7] == MONEY and used.nano or used.prompt + used.made
      local s, over = read(c, charge), spent - charge[6]
      if over > 0 then
        s = spend(c, charge, s, over)
      else
        s = s and give_back(c, charge, s, -over)
      end
      if s then write(c, charge, s) end
    end
  end
end

return { look = look, charge_all = charge_all, settle = settle }
