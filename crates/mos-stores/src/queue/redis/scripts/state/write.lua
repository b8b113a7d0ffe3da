-- ARGV: tenant, key, value, what is expected: nothing, 'absent' or a version. Returns 1 and the new version; or 0 and the
-- version that is there instead, 0 for no document; or 2 and 0 when the cube was deleted.
if is_closed() then return {2, 0} end
local name, value, expected = ARGV[2], ARGV[3], ARGV[4]
local have = redis.call('HEXISTS', key('values'), name) == 1 and redis.call('HGET', key('versions'), name) or 'absent'
if expected ~= '' and expected ~= have then return {0, tonumber(have) or 0} end
redis.call('HSET', key('values'), name, value)
redis.call('ZADD', key('keys'), 0, name)
return {1, redis.call('HINCRBY', key('versions'), name, 1)}
