-- ARGV: tenant, now, most jobs, forgotten until; then eight per job: id, kind, payload, group encoded, group, priority,
-- not before, most attempts. Returns 1 per job that is new and 0 per known one; or 'full' and the number of dead ones.
local tenant, now, most, forgotten_until = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local jobs, ids = key('jobs', tenant), key('ids', tenant)
local answer, seen, n_new = {}, {}, 0
for at = 5, #ARGV, 8 do
  local id = ARGV[at]
  local known = seen[id] or redis.call('HEXISTS', ids, id) == 1 or is_finished(tenant, id, forgotten_until)
  seen[id] = true
  table.insert(answer, known and 0 or 1)
  if not known then n_new = n_new + 1 end
end
local n_dead = redis.call('XLEN', key('dead', tenant))
if n_new > 0 and redis.call('XLEN', jobs) + n_dead + n_new > most then return {'full', n_dead} end
if n_new == 0 then return answer end
if redis.call('EXISTS', jobs) == 0 then redis.call('XGROUP', 'CREATE', jobs, WORKERS, '0', 'MKSTREAM') end
redis.call('SADD', P .. ':tenants', tenant)
for index, is_new in ipairs(answer) do
  if is_new == 1 then
    local at = 5 + (index - 1) * 8
    local id, group = ARGV[at], ARGV[at + 3]
    local number = following('number')
    redis.call('XADD', jobs, entry(number), 'id', id, 'kind', ARGV[at + 1], 'payload', ARGV[at + 2],
      'group', ARGV[at + 4], 'priority', ARGV[at + 5], 'max_attempts', ARGV[at + 7], 'pushed_ms', now)
    redis.call('HSET', ids, id, number)
    -- An id whose memory has lapsed but was not swept yet.
    redis.call('ZREM', key('finished_at', tenant), id)
    redis.call('HDEL', key('finished', tenant), id)
    local state = {
      id = id, group = group ~= '' and group or nil, priority = tonumber(ARGV[at + 5]), time = ARGV[at + 6],
      attempt = 0, most = tonumber(ARGV[at + 7]),
    }
    arrive(tenant, number, state, now)
  end
end
return answer
