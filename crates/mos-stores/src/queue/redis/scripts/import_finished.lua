-- ARGV: tenant, forgotten until, how long ids are kept; then ids and times in turn. Returns 1 per id that is new and 0 per known
-- one.
local tenant, forgotten_until = ARGV[1], ARGV[2]
local finished, finished_at, ids = key('finished', tenant), key('finished_at', tenant), key('ids', tenant)
local answer = {}
for at = 4, #ARGV, 2 do
  local id, done = ARGV[at], ARGV[at + 1]
  local is_known = redis.call('HEXISTS', ids, id) == 1 or is_finished(tenant, id, forgotten_until)
  local is_new = not is_known and tonumber(done) > tonumber(forgotten_until)
  if is_new then
    -- No claim has this number.
    redis.call('HSET', finished, id, '0')
    redis.call('ZADD', finished_at, done, id)
  end
  table.insert(answer, is_new and 1 or 0)
end
-- What a tenant that never comes back has left goes by itself.
redis.call('PEXPIRE', finished, ARGV[3])
redis.call('PEXPIRE', finished_at, ARGV[3])
return answer
