-- ARGV: tenant, id, claim, now. Returns whether the ticket holds.
local tenant, now = ARGV[1], ARGV[4]
local number, state = held(tenant, ARGV[2], ARGV[3])
if not number then return 0 end
withdraw(tenant, number, state)
state.attempt, state.time = state.attempt - 1, now
wait_again(tenant, number, state, now)
return 1
