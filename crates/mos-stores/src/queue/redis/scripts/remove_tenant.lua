-- ARGV: tenant. Returns how many jobs were removed.
local tenant = ARGV[1]
local states = redis.call('HGETALL', key('state', tenant))
for at = 1, #states, 2 do
  local number, state = states[at], cjson.decode(states[at + 1])
  if state.stage == 'delayed' or state.stage == 'claimed' then
    redis.call('ZREM', P .. ':due', due_member(tenant, number))
  end
  if state.group then redis.call('UNLINK', group_key(tenant, state.group)) end
end
redis.call('ZREM', P .. ':line', tenant)
redis.call('HDEL', P .. ':given', tenant)
redis.call('SREM', P .. ':tenants', tenant)
for _, kind in ipairs({'jobs', 'dead', 'state', 'ids', 'ready', 'held', 'finished', 'finished_at'}) do
  redis.call('UNLINK', key(kind, tenant))
end
return #states / 2
