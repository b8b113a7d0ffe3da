-- ARGV: tenant, 'open' or 'close', generation of the cube. Returns 1 when the tenant is as was asked for, or belongs to a
-- later cube and was asked to close; 0 when it cannot be opened, because it belongs to a later cube or this one is over.
local known, asked = tonumber(redis.call('HGET', key('owner'), 'generation') or 0), tonumber(ARGV[3])
local opens = ARGV[2] == 'open'
if opens and known == asked and not is_closed() then return 1 end
if opens and known >= asked then return 0 end
if known > asked then return 1 end
erase()
redis.call('HSET', key('owner'), 'generation', ARGV[3], 'closed', opens and '0' or '1')
return 1
