-- ARGV: tenant, id, claim, now, reason, time of the next attempt or nothing. Returns 0 when the ticket has ended, 1 when
-- the job waits, 2 when it is dead.
local tenant, now, reason, again = ARGV[1], ARGV[4], ARGV[5], ARGV[6]
local number, state = held(tenant, ARGV[2], ARGV[3])
if not number then return 0 end
state.error = reason
if again == '' or state.attempt >= state.most then
  bury(tenant, number, state, reason, now)
  return 2
end
withdraw(tenant, number, state)
state.time = again
wait_again(tenant, number, state, now)
return 1
