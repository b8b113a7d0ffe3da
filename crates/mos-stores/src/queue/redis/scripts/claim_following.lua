-- ARGV: tenant, id, claim, now, most jobs, end of the lease. Returns nil when the ticket has ended, else what is told of each
-- job that is given.
local tenant, now, limit, ends = ARGV[1], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local number, state = held(tenant, ARGV[2], ARGV[3])
if not number then return false end

local function kind_of(job)
  local found = redis.call('XRANGE', key('jobs', tenant), entry(job), entry(job))[1]
  local fields = found and found[2] or {}
  for at = 1, #fields, 2 do
    if fields[at] == 'kind' then return fields[at + 1] end
  end
end

local answer = {}
local members = state.group and group_key(tenant, state.group)
local place = members and redis.call('LPOS', members, number)
if not place then return answer end
local kind = kind_of(number)
for _, behind in ipairs(redis.call('LRANGE', members, place + 1, place + limit)) do
  local waiting = load(tenant, behind)
  if not waiting or waiting.stage ~= 'blocked' or tonumber(waiting.time) > tonumber(now) then break end
  if kind_of(behind) ~= kind then break end
  local job = give(tenant, behind, waiting, state.consumer, ends)
  if not job then break end
  table.insert(answer, job)
end
return answer
