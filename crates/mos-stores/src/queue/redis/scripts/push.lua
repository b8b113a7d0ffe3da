-- ARGV: tenant, now, most jobs, forgotten until; then thirteen per job: id, kind, payload, group encoded, group, priority, not
-- before, most attempts, attempt, when it was pushed, error, reason, and when it died or nothing. Jobs that come from another
-- queue have been through more than new ones. Returns 1 per job that is new and 0 per known one; or 'full' and the number of
-- dead ones.
local tenant, now, most, forgotten_until = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local jobs, ids = key('jobs', tenant), key('ids', tenant)
local answer, seen, n_new = {}, {}, 0
for at = 5, #ARGV, 13 do
  local id = ARGV[at]
  local known = seen[id] or redis.call('HEXISTS', ids, id) == 1 or is_finished(tenant, id, forgotten_until)
  seen[id] = true
  table.insert(answer, known and 0 or 1)
  if not known then n_new = n_new + 1 end
end
local n_dead = redis.call('XLEN', key('dead', tenant))
if n_new > 0 and redis.call('XLEN', jobs) + n_dead + n_new > most then return {'full', n_dead} end
if n_new == 0 then return answer end
redis.call('SADD', P .. ':tenants', tenant)
local is_open = false

local function add(at)
  local id, group, reason, died = ARGV[at], ARGV[at + 3], ARGV[at + 11], ARGV[at + 12]
  local number = following('number')
  local fields = {
    'id', id, 'kind', ARGV[at + 1], 'payload', ARGV[at + 2], 'group', ARGV[at + 4], 'priority', ARGV[at + 5],
    'max_attempts', ARGV[at + 7], 'pushed_ms', ARGV[at + 9],
  }
  local state = {
    id = id, group = group ~= '' and group or nil, priority = tonumber(ARGV[at + 5]), time = ARGV[at + 6],
    attempt = tonumber(ARGV[at + 8]), most = tonumber(ARGV[at + 7]),
    error = ARGV[at + 10] ~= '' and ARGV[at + 10] or nil,
  }
  redis.call('HSET', ids, id, number)
  -- An id whose memory has lapsed but was not swept yet.
  redis.call('ZREM', key('finished_at', tenant), id)
  redis.call('HDEL', key('finished', tenant), id)
  if died == '' then
    if not is_open and redis.call('EXISTS', jobs) == 0 then
      redis.call('XGROUP', 'CREATE', jobs, WORKERS, '0', 'MKSTREAM')
    end
    is_open = true
    redis.call('XADD', jobs, entry(number), unpack(fields))
    return arrive(tenant, number, state, now)
  end
  add_dead(tenant, state, fields, reason, died)
  save(tenant, number, state)
end

for index, is_new in ipairs(answer) do
  if is_new == 1 then add(5 + (index - 1) * 13) end
end
return answer
