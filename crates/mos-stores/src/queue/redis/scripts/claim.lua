-- ARGV: now, most jobs, end of the lease, consumer, most jobs to wake. Returns a list per job: tenant, end of the lease,
-- claim, attempt, error, then names and values of the job's fields.
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
      admit(tenant, number, state, now)
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
    local claim = following('claim')
    -- FORCE: a job is claimed for the first time out of turn too, for its priority, its time or its group.
    local found = state and redis.call('XCLAIM', key('jobs', tenant), WORKERS, consumer, 0, entry(number),
      'RETRYCOUNT', text(state.attempt + 1), 'FORCE')[1]
    if found then
      state.attempt = state.attempt + 1
      state.stage, state.claim, state.consumer, state.ends = 'claimed', claim, consumer, ends
      save(tenant, number, state)
      redis.call('ZADD', P .. ':due', ends, due_member(tenant, number))
      local job = {tenant, ends, claim, text(state.attempt), state.error or ''}
      for _, field in ipairs(found[2]) do table.insert(job, field) end
      table.insert(answer, job)
      if tonumber(claim) % 1024 == 0 then drop_idle_consumers(tenant) end
    elseif state then
      -- Somebody removed the entry by hand: without its payload it cannot be done.
      leave_group(tenant, number, state, now)
      forget(tenant, number, state)
      tidy(tenant)
    end
    if redis.call('ZCARD', key('ready', tenant)) > 0 then
      redis.call('ZADD', P .. ':line', following('turn'), tenant)
    else
      redis.call('ZREM', P .. ':line', tenant)
    end
  end
end
return answer
