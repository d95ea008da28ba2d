-- What ended requests have used: `core/usage.py` in Lua. `finish` calls `note_usage` once for each request.

local SPANS = { { 'hour', 3600000, 'usage_hours_ms' }, { 'day', 86400000, 'usage_days_ms' } }
local USAGE_OTHERS = '\147\161*\161*\161*' -- { '*', '*', '*' } as `cmsgpack` packs it, which is not there yet
local SLACK_MS = 3600000 + 60000 -- the time to live of the records is renewed at least once an hour while records come

local function span_of(c, span, at) return key.usage_sums(c, span[1], string.format('%.0f', at - at % span[2])) end

-- Raises where a key of usage has another type. To be called before the first write of a move that ends a request.
local function check_usage(c)
  if c.usage_checked then return end
  check_type(c, 'XLEN', key.usage_records(c))
  for _, span in ipairs(SPANS) do check_type(c, 'HLEN', span_of(c, span, c.now)) end
  c.usage_checked = true
end

-- What a request has used, from its end: tokens of the prompt and of the answer, tokens from a cache, the cost, and what
-- else its record has. An unknown number is estimated too high rather than too low. `limiter/used.py` in Lua.
local function used_by(r, last)
  local key_id, estimate, prompt_price, completion_price, cached_price = unpack(cmsgpack.unpack(r.us))
  local fields = cmsgpack.unpack(last)
  local at = fields[1] == 'x' and 4 or 3
  local known, made, cached = math.max(fields[at], 0), math.max(fields[at + 1], r.n), fields[at + 2] or 0
  local refused = fields[1] == 'x' and fields[2] == 'INVALID_REQUEST'
  local prompt = known
  if known == 0 and not refused and r.ep > 0 then prompt = estimate end
  cached = math.min(cached, known)
  local total = 0
  if prompt_price then
    total = (prompt - cached) * prompt_price + made * completion_price + cached * cached_price
  end
  return {
    prompt = prompt, made = made, cached = cached, nano = math.floor((total + 999) / 1000),
    key_id = key_id, code = fields[2], failed = fields[1] == 'x' and 1 or 0,
  }
end

-- Writes the record. Returns the time of the record, in ms: now, or later where the server's clock was set back.
local function write_record(c, record)
  local name, most = key.usage_records(c), settings(c).usage_records_max
  if most == 0 then return c.now end
  -- Redis refuses an id below the last one, which is there after the clock was set back.
  local added = redis.pcall('XADD', name, 'MAXLEN', '=', most, string.format('%.0f-*', c.now), 'u', record)
  if type(added) == 'table' then added = redis.call('XADD', name, 'MAXLEN', '=', most, '*', 'u', record) end
  return tonumber(string.match(added, '^%d+'))
end

local function keep_records(c)
  redis.call('PEXPIRE', key.usage_records(c), string.format('%.0f', settings(c).usage_records_ms + SLACK_MS))
end

local function add_to_sum(c, span, at, field, added)
  local name, s = span_of(c, span, at), settings(c)
  local packed, sums = redis.call('HGET', name, field), nil
  if not packed then
    sums = redis.call('HLEN', name)
    if sums >= s.usage_sums_max then
      field = USAGE_OTHERS
      packed = redis.call('HGET', name, field)
    end
  end
  local counts = packed and cmsgpack.unpack(packed) or { 0, 0, 0, 0, 0, 0, 0, 0 }
  for i, by in ipairs(added) do counts[i] = counts[i] + by end
  redis.call('HSET', name, field, cmsgpack.pack(counts))
  if sums == 0 then
    redis.call('PEXPIRE', name, string.format('%.0f', at - at % span[2] + span[2] + s[span[3]] - c.now))
    keep_records(c)
  end
end

-- `used` is from `used_by`. The request is in no queue any more, and no worker holds it.
local function note_usage(c, r, used)
  local queue_ms, run_ms = tonumber(r.qt or '0'), tonumber(r.rn or '0')
  local at = write_record(c, cmsgpack.pack({ r.id, r.t, used.key_id, r.m, tonumber(r.p), used.code, r.at, used.prompt,
    used.made, used.cached, queue_ms, run_ms, used.nano }))
  local cell = cmsgpack.pack({ r.t, used.key_id, r.m })
  local added = { 1, used.failed, used.prompt, used.made, used.cached, queue_ms, run_ms, used.nano }
  for _, span in ipairs(SPANS) do add_to_sum(c, span, at, cell, added) end
end

-- Forgets records whose time is over.
local function forget_usage(c)
  local name = key.usage_records(c)
  redis.call('XTRIM', name, 'MINID', '=', string.format('%.0f', math.max(0, c.now - settings(c).usage_records_ms)))
  if redis.call('PTTL', name) == -1 then keep_records(c) end
end

-- since in ms or `(` and the id of a record, until in ms, limit. Returns the records with their ids.
local function usage_records(c, args)
  return redis.call('XRANGE', key.usage_records(c), args[3], string.format('%.0f', args[4] - 1), 'COUNT', args[5])
end

register('usage_records', usage_records, { 'no-writes' })

-- pairs of the kind of a span and its start in ms. Returns the sums of each span.
local function usage_sums(c, args)
  local found = {}
  for i = 3, #args, 2 do found[#found + 1] = redis.call('HGETALL', key.usage_sums(c, args[i], args[i + 1])) end
  return found
end

register('usage_sums', usage_sums, { 'no-writes' })
