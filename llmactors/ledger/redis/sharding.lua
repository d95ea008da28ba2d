-- What only a ledger over several servers asks: `ledger/sharded/`.

-- model. Returns each priority class in which requests wait, and how many tenants wait in the class.
local function waiting_tenants(c, args)
  local found = {}
  for _, class in ipairs(redis.call('HKEYS', key.classes(c, args[3]))) do
    local tenants = redis.call('ZCARD', key.heads(c, args[3], class))
    if tenants > 0 then
      found[#found + 1] = class
      found[#found + 1] = tenants
    end
  end
  return found
end

register('waiting_tenants', waiting_tenants, { 'no-writes' })
