-- ARGV: tenant. Returns how many jobs wait, are claimed, are dead, and when the oldest of the former two was pushed.
local jobs, dead = key('jobs', ARGV[1]), redis.call('XLEN', key('dead', ARGV[1]))
local length = redis.call('XLEN', jobs)
if length == 0 then return {0, 0, dead} end
local claimed = redis.call('XPENDING', jobs, WORKERS)[1]
local fields = redis.call('XRANGE', jobs, '-', '+', 'COUNT', 1)[1][2]
local oldest = '0'
for at = 1, #fields, 2 do
  if fields[at] == 'pushed_ms' then oldest = fields[at + 1] end
end
return {length - claimed, claimed, dead, oldest}
