-- ARGV: now, most jobs, end of the lease, consumer, most jobs to wake, then tenants and their weights in turn. Returns what
-- is told of each job that is given.
local now, limit, ends, consumer, most_woken = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])

-- Delayed jobs become ready, and what a silent consumer had does again.
local due = redis.call('ZRANGEBYSCORE', P .. ':due', '-inf', now, 'LIMIT', 0, most_woken)
for _, member in ipairs(due) do
  local number, tenant = string.match(member, '^0*(%d+) (%S*)$')
  local state = load(tenant, number)
  if not state then
    redis.call('ZREM', P .. ':due', member)
  else
    local is_last = false
    if state.stage == 'claimed' then
      state.error = 'the consumer `' .. state.consumer .. '` said nothing until its lease was over'
      is_last = state.attempt >= state.most
    end
    if is_last then
      bury(tenant, number, state, 'attempt ' .. text(state.attempt) .. ', the last one: ' .. state.error, now)
    else
      withdraw(tenant, number, state)
      state.time = now
      wait_again(tenant, number, state, now)
    end
  end
end

-- Names of consumers that hold nothing are dropped now and then: every process brings a new one.
local function drop_idle_consumers(tenant)
  local jobs = key('jobs', tenant)
  for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', jobs, WORKERS)) do
    local info = {}
    for at = 1, #fields, 2 do info[fields[at]] = fields[at + 1] end
    if info.pending == 0 then redis.call('XGROUP', 'DELCONSUMER', jobs, WORKERS, info.name) end
  end
end

local weights = {}
for at = 6, #ARGV, 2 do weights[ARGV[at]] = tonumber(ARGV[at + 1]) end

-- A tenant that was served as often as its weight says goes to the end of the line.
local function end_turn(tenant)
  local weight = weights[tenant] or 1
  if weight > 1 and redis.call('HINCRBY', P .. ':given', tenant, 1) < weight then return end
  if weight > 1 then redis.call('HDEL', P .. ':given', tenant) end
  redis.call('ZADD', P .. ':line', following('turn'), tenant)
end

local answer = {}
while #answer < limit do
  local tenant = redis.call('ZRANGE', P .. ':line', 0, 0)[1]
  if not tenant then break end
  local number = redis.call('ZRANGE', key('ready', tenant), 0, 0)[1]
  if not number then
    redis.call('ZREM', P .. ':line', tenant)
  else
    redis.call('ZREM', key('ready', tenant), number)
    local state = load(tenant, number)
    local job = state and give(tenant, number, state, consumer, ends)
    if job then
      table.insert(answer, job)
      if tonumber(job[3]) % 1024 == 0 then drop_idle_consumers(tenant) end
    elseif state then
      -- Somebody removed the entry by hand: without its payload it cannot be done.
      leave_group(tenant, number, state, now)
      forget(tenant, number, state)
      tidy(tenant)
    end
    if redis.call('ZCARD', key('ready', tenant)) > 0 then
      end_turn(tenant)
    else
      leave_line(tenant)
    end
  end
end
return answer
