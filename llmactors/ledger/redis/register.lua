-- The functions that there are.

-- Work that was accepted may be finished also where Redis has no memory left; only `submit` is refused then.
local function register(name, move, flags)
  local function callback(keys, args)
    local c = begin(keys, args)
    local reply = move(c, args)
    commit(c)
    return reply
  end
  redis.register_function({ function_name = '@LIBRARY@_' .. name, callback = callback, flags = flags })
end

register('submit', submit, {})
register('restore', restore, { 'allow-oom' })
register('tail', tail, { 'allow-oom' })
register('unfollow', unfollow, { 'allow-oom' })
register('read', read, { 'no-writes' })
register('info', info, { 'no-writes' })
register('expected_wait', expected_wait, { 'no-writes' })
register('cancel', cancel_request, { 'allow-oom' })
register('watch', watch, { 'allow-oom' })
register('extend', extend, { 'allow-oom' })
register('beat', beat, { 'allow-oom' })
register('leave', leave, { 'allow-oom' })
register('claim', claim, { 'allow-oom' })
register('append', append, { 'allow-oom' })
register('release', release, { 'allow-oom' })
register('reap', reap, { 'allow-oom' })
register('stats', stats, { 'no-writes' })
register('dead_letters', dead_letters, { 'no-writes' })
