-- ARGV: tenant, offset, limit. Returns the number of all dead jobs, then names and values of the fields of each.
local dead, offset, limit = key('dead', ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local total = redis.call('XLEN', dead)
local answer = {total}
local last = math.min(offset + limit, total)
if offset < last then
  local found = redis.call('XRANGE', dead, '-', '+', 'COUNT', text(last))
  for at = offset + 1, #found do table.insert(answer, found[at][2]) end
end
return answer
