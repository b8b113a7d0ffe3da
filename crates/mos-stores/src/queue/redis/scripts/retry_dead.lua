-- ARGV: tenant, now, then ids. Returns how many jobs were brought back.
local tenant, now = ARGV[1], ARGV[2]
local jobs, dead = key('jobs', tenant), key('dead', tenant)
local n_back = 0
for at = 3, #ARGV do
  local number = redis.call('HGET', key('ids', tenant), ARGV[at])
  local state = number and load(tenant, number)
  local found = state and state.stage == 'dead' and redis.call('XRANGE', dead, entry(state.dead), entry(state.dead))[1]
  if found then
    local fields, of_death = {}, {attempt = true, reason = true, died_ms = true, error = true, pushed_ms = true}
    for field = 1, #found[2], 2 do
      if not of_death[found[2][field]] then
        table.insert(fields, found[2][field])
        table.insert(fields, found[2][field + 1])
      end
    end
    if redis.call('EXISTS', jobs) == 0 then redis.call('XGROUP', 'CREATE', jobs, WORKERS, '0', 'MKSTREAM') end
    local new = following('number')
    redis.call('XADD', jobs, entry(new), 'pushed_ms', now, unpack(fields))
    redis.call('XDEL', dead, entry(state.dead))
    redis.call('HDEL', key('state', tenant), number)
    redis.call('HSET', key('ids', tenant), state.id, new)
    state.attempt, state.time, state.dead, state.reason = 0, '0', nil, nil
    arrive(tenant, new, state, now)
    n_back = n_back + 1
  end
end
tidy(tenant)
return n_back
