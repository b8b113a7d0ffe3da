-- ARGV: tenant, time and id of the one before the first wanted or twice nothing, most ids, forgotten until. Returns ids and times
-- in turn.
local finished_at, limit = key('finished_at', ARGV[1]), tonumber(ARGV[4])
local first = redis.call('ZCOUNT', finished_at, '-inf', ARGV[5])
if ARGV[3] ~= '' then
  local rank = redis.call('ZRANK', finished_at, ARGV[3])
  -- One that is forgotten meanwhile: all of its time come again.
  first = math.max(first, rank and rank + 1 or redis.call('ZCOUNT', finished_at, '-inf', '(' .. ARGV[2]))
end
if limit < 1 then return {} end
return redis.call('ZRANGE', finished_at, text(first), text(first + limit - 1), 'WITHSCORES')
