-- ARGV: tenant, log, most entries, number of new entries, then the last of these, as many as the log keeps. Returns the
-- number of the last entry, -1 when the cube was deleted.
if is_closed() then return -1 end
local log, keep, n_new = ARGV[2], ARGV[3], tonumber(ARGV[4])
local last = tonumber(redis.call('HGET', key('last'), log) or 0)
if n_new > 0 then last = redis.call('HINCRBY', key('last'), log, n_new) end
for at = 5, #ARGV do redis.call('RPUSH', log_key(log), ARGV[at]) end
if keep == '0' then
  redis.call('UNLINK', log_key(log))
else
  redis.call('LTRIM', log_key(log), '-' .. keep, '-1')
end
return last
