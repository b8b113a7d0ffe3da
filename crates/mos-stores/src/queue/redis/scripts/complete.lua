-- ARGV: tenant, id, claim, now, forgotten until, most finished ids, how long they are kept.
-- Returns whether the ticket holds.
local tenant, id, claim, now, forgotten_until, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local finished, finished_at = key('finished', tenant), key('finished_at', tenant)
if is_finished(tenant, id, forgotten_until) and redis.call('HGET', finished, id) == claim then return 1 end
local number, state = held(tenant, id, claim)
if not number then return 0 end
withdraw(tenant, number, state)
leave_group(tenant, number, state, now)
forget(tenant, number, state)
redis.call('HSET', finished, id, claim)
redis.call('ZADD', finished_at, now, id)

local function sweep(ids)
  for _, old in ipairs(ids) do
    redis.call('ZREM', finished_at, old)
    redis.call('HDEL', finished, old)
  end
end
sweep(redis.call('ZRANGEBYSCORE', finished_at, '-inf', forgotten_until, 'LIMIT', 0, 100))
local excess = redis.call('ZCARD', finished_at) - most
if excess > 0 then sweep(redis.call('ZRANGE', finished_at, 0, math.min(excess, 100) - 1)) end
-- What a tenant that never comes back has left goes by itself.
redis.call('PEXPIRE', finished, ARGV[7])
redis.call('PEXPIRE', finished_at, ARGV[7])
tidy(tenant)
return 1
