-- Shared by all scripts. KEYS[1] is the prefix of every key; `tenant` is always the encoded name of a cube.
--
-- Numbers of jobs are text: they name entries of streams and members of sets, and Lua would write large ones short.
local P = KEYS[1]
local WORKERS = 'workers'

local function key(kind, tenant) return P .. ':' .. kind .. ':' .. tenant end
local function group_key(tenant, group) return P .. ':group:' .. tenant .. ':' .. group end
local function text(number) return string.format('%.0f', number) end
local function entry(number) return number .. '-0' end
-- Filled up, so that what is due at the same time is in the order of numbers.
local function due_member(tenant, number) return string.rep('0', 16 - #number) .. number .. ' ' .. tenant end
local function following(counter) return text(redis.call('HINCRBY', P .. ':meta', counter, 1)) end

-- Higher priorities first, then the order of numbers: both in one score, which is exact up to 2^53.
local function score(priority, number) return text((255 - priority) * 2 ^ 44 + tonumber(number)) end

local function load(tenant, number)
  local state = redis.call('HGET', key('state', tenant), number)
  return state and cjson.decode(state)
end

local function save(tenant, number, state)
  redis.call('HSET', key('state', tenant), number, cjson.encode(state))
end

local function stand_in_line(tenant)
  if not redis.call('ZSCORE', P .. ':line', tenant) then
    redis.call('ZADD', P .. ':line', following('turn'), tenant)
  end
end

-- Called after a ready job became something else, and after the one behind it in its group may have become ready: the
-- tenant keeps its place then.
local function leave_line(tenant)
  if redis.call('ZCARD', key('ready', tenant)) == 0 and redis.call('ZREM', P .. ':line', tenant) == 1 then
    redis.call('HDEL', P .. ':given', tenant)
  end
end

-- A job that nothing is in front of becomes ready, or waits for its time.
local function admit(tenant, number, state, now)
  state.claim, state.consumer, state.ends = nil, nil, nil
  if tonumber(state.time) > tonumber(now) then
    state.stage = 'delayed'
    redis.call('ZADD', P .. ':due', state.time, due_member(tenant, number))
  else
    state.stage = 'ready'
    redis.call('ZADD', key('ready', tenant), score(state.priority, number), number)
    stand_in_line(tenant)
  end
  save(tenant, number, state)
end

-- A job joins its group; one that is alone in it, or has none, may go.
local function arrive(tenant, number, state, now)
  if state.group and redis.call('RPUSH', group_key(tenant, state.group), number) > 1 then
    state.stage = 'blocked'
    save(tenant, number, state)
  else
    admit(tenant, number, state, now)
  end
end

-- Counts the claimed jobs of a group. A group without a count has none.
local function count_claimed(tenant, state, by)
  if not state.group then return end
  local counts = key('held', tenant)
  if redis.call('HINCRBY', counts, state.group, by) < 1 then redis.call('HDEL', counts, state.group) end
end

-- Takes a job out of whatever it waits in or is claimed by. It stays in its group.
local function withdraw(tenant, number, state)
  if state.stage == 'delayed' or state.stage == 'claimed' then
    redis.call('ZREM', P .. ':due', due_member(tenant, number))
  end
  if state.stage == 'claimed' then
    redis.call('XACK', key('jobs', tenant), WORKERS, entry(number))
    count_claimed(tenant, state, -1)
  end
  if state.stage == 'ready' then
    redis.call('ZREM', key('ready', tenant), number)
  end
end

-- The first job of a group may go, unless a consumer has one of the group.
local function let_next_go(tenant, group, now)
  if redis.call('HEXISTS', key('held', tenant), group) == 1 then return end
  local head = redis.call('LINDEX', group_key(tenant, group), 0)
  local waiting = head and load(tenant, head)
  if waiting and waiting.stage == 'blocked' then admit(tenant, head, waiting, now) end
end

-- A job leaves its group, and the next one may go.
local function leave_group(tenant, number, state, now)
  if not state.group then return end
  redis.call('LREM', group_key(tenant, state.group), 1, number)
  let_next_go(tenant, state.group, now)
end

-- A job that was withdrawn waits again, at its place in its group.
local function wait_again(tenant, number, state, now)
  if not state.group then return admit(tenant, number, state, now) end
  state.stage, state.claim, state.consumer, state.ends = 'blocked', nil, nil, nil
  save(tenant, number, state)
  let_next_go(tenant, state.group, now)
end

-- Puts a job into the hands of a consumer. Returns tenant, end of the lease, claim, attempt, error, then names and values
-- of the job's fields; nothing when somebody removed the entry by hand.
local function give(tenant, number, state, consumer, ends)
  local claim = following('claim')
  -- FORCE: a job is claimed for the first time out of turn too, for its priority, its time or its group.
  local found = redis.call('XCLAIM', key('jobs', tenant), WORKERS, consumer, 0, entry(number),
    'RETRYCOUNT', text(state.attempt + 1), 'FORCE')[1]
  if not found then return end
  state.attempt = state.attempt + 1
  state.stage, state.claim, state.consumer, state.ends = 'claimed', claim, consumer, ends
  save(tenant, number, state)
  count_claimed(tenant, state, 1)
  redis.call('ZADD', P .. ':due', ends, due_member(tenant, number))
  local job = {tenant, ends, claim, text(state.attempt), state.error or ''}
  for _, field in ipairs(found[2]) do table.insert(job, field) end
  return job
end

local function forget(tenant, number, state)
  redis.call('XDEL', key('jobs', tenant), entry(number))
  redis.call('HDEL', key('state', tenant), number)
  redis.call('HDEL', key('ids', tenant), state.id)
end

-- Streams outlive their last entry, and with them the names of consumers.
local function tidy(tenant)
  local left = 0
  for _, kind in ipairs({'jobs', 'dead'}) do
    local length = redis.call('XLEN', key(kind, tenant))
    if length == 0 then redis.call('DEL', key(kind, tenant)) end
    left = left + length
  end
  if left == 0 then redis.call('SREM', P .. ':tenants', tenant) end
end

-- A job goes among the dead; one whose fields are gone leaves its state alone there, which the caller saves.
local function add_dead(tenant, state, fields, reason, died)
  local dead = following('number')
  if fields then
    for _, field in ipairs({'attempt', text(state.attempt), 'reason', reason, 'died_ms', died}) do
      table.insert(fields, field)
    end
    if state.error then
      table.insert(fields, 'error')
      table.insert(fields, state.error)
    end
    redis.call('XADD', key('dead', tenant), entry(dead), unpack(fields))
  end
  state.stage, state.dead, state.reason = 'dead', dead, reason
end

local function bury(tenant, number, state, reason, now)
  withdraw(tenant, number, state)
  leave_group(tenant, number, state, now)
  local found = redis.call('XRANGE', key('jobs', tenant), entry(number), entry(number))[1]
  add_dead(tenant, state, found and found[2], reason, now)
  redis.call('XDEL', key('jobs', tenant), entry(number))
  state.claim, state.consumer, state.ends = nil, nil, nil
  save(tenant, number, state)
  tidy(tenant)
end

-- Returns number and state of the job that a ticket is for, nothing when the ticket has ended.
local function held(tenant, id, claim)
  local number = redis.call('HGET', key('ids', tenant), id)
  local state = number and load(tenant, number)
  if state and state.stage == 'claimed' and state.claim == claim then return number, state end
end

-- Whether an id names a finished job that is still remembered.
local function is_finished(tenant, id, forgotten_until)
  local at = redis.call('ZSCORE', key('finished_at', tenant), id)
  return at and tonumber(at) > tonumber(forgotten_until)
end
