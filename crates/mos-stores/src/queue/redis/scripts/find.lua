-- ARGV: tenant, id, forgotten until. Returns stage, text (consumer or reason), end of the lease; nothing for an unknown
-- job.
local tenant, id = ARGV[1], ARGV[2]
local number = redis.call('HGET', key('ids', tenant), id)
local state = number and load(tenant, number)
if state then return {state.stage, state.reason or state.consumer or '', state.ends or '0'} end
if is_finished(tenant, id, ARGV[3]) then return {'finished', '', '0'} end
return {}
