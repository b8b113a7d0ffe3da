-- ARGV: tenant, log, number of the entry before the first wanted, most entries (at least 1). Returns the number of the
-- first entry found, then the entries.
local log, limit = log_key(ARGV[2]), tonumber(ARGV[4])
local last = tonumber(redis.call('HGET', key('last'), ARGV[2]) or 0)
-- A log keeps its newest entries, and their numbers have no gaps.
local first = last - redis.call('LLEN', log) + 1
local from = math.max(tonumber(ARGV[3]) + 1 - first, 0)
local answer = redis.call('LRANGE', log, text(from), text(from + limit - 1))
table.insert(answer, 1, text(first + from))
return answer
