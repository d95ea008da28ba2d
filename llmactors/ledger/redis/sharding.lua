-- What only a ledger over several servers asks: `ledger/sharded/`.

-- worker, model. Notes that the worker claims for the model. Returns, of each priority class in which requests wait, the class,
-- how many tenants wait there, and the virtual time of its queue; and the workers that have asked within the time of a lease.
-- Who asks is a hint, which reaches neither the append-only file nor a replica.
local function queue_view(c, args)
  local worker, model, classes = args[3], args[4], {}
  for _, class in ipairs(redis.call('HKEYS', key.classes(c, model))) do
    local tenants = redis.call('ZCARD', key.heads(c, model, class))
    if tenants > 0 then
      classes[#classes + 1] = class
      classes[#classes + 1] = tenants
      classes[#classes + 1] = redis.call('HGET', key.tags(c, model, class), 'v') or '0'
    end
  end
  local name, lease_ms = key.claimers(c, model), settings(c).lease_ms
  if type(redis.pcall('ZCARD', name)) ~= 'number' then return { classes, {} } end
  write_volatile('ZADD', name, c.now, worker)
  write_volatile('ZREMRANGEBYSCORE', name, '-inf', c.now - lease_ms)
  write_volatile('PEXPIRE', name, lease_ms)
  local claimers = {}
  for _, each in ipairs(redis.call('ZRANGE', name, 0, -1)) do
    if is_live(c, each) then claimers[#claimers + 1] = each end
  end
  return { classes, claimers }
end

register('queue_view', queue_view, { 'allow-oom' })
