-- ARGV: now. Returns when something can be claimed; nothing when nothing waits and nothing is claimed.
if redis.call('ZCARD', P .. ':line') > 0 then return {ARGV[1]} end
local first = redis.call('ZRANGE', P .. ':due', 0, 0, 'WITHSCORES')
return first[2] and {text(tonumber(first[2]))} or {}
