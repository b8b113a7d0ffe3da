-- ARGV: tenant, now, then ids. Returns how many jobs were removed.
local tenant, now = ARGV[1], ARGV[2]
local n_removed = 0
for at = 3, #ARGV do
  local number = redis.call('HGET', key('ids', tenant), ARGV[at])
  local state = number and load(tenant, number)
  if state and state.stage ~= 'claimed' then
    if state.stage == 'dead' then
      redis.call('XDEL', key('dead', tenant), entry(state.dead))
    else
      withdraw(tenant, number, state)
      leave_group(tenant, number, state, now)
      leave_line(tenant)
    end
    forget(tenant, number, state)
    n_removed = n_removed + 1
  end
end
tidy(tenant)
return n_removed
