-- ARGV: tenant, id, claim, end of the lease. Returns whether the ticket holds.
local tenant, ends = ARGV[1], ARGV[4]
local number, state = held(tenant, ARGV[2], ARGV[3])
if not number then return 0 end
state.ends = ends
save(tenant, number, state)
redis.call('ZADD', P .. ':due', ends, due_member(tenant, number))
return 1
