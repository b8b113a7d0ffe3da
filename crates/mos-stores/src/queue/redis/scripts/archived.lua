-- ARGV: tenant, `jobs` or `dead`, number of the entry before the first wanted or nothing, most jobs, most bytes. Returns of each
-- job number, stage, time, attempt and error, then names and values of its fields. The first one comes however large it is.
local stream, last, limit, most = key(ARGV[2], ARGV[1]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local from = last == '' and '-' or '(' .. entry(last)
local answer, n_bytes = {}, 0
while #answer < limit do
  -- Few at a time: they may be large.
  local found = redis.call('XRANGE', stream, from, '+', 'COUNT', text(math.min(limit - #answer, 16)))
  if #found == 0 then break end
  for _, one in ipairs(found) do
    from = '(' .. one[1]
    local number = string.match(one[1], '^(%d+)')
    local row = {number, 'dead', '0', '0', ''}
    if ARGV[2] == 'jobs' then
      local state = load(ARGV[1], number)
      -- An entry that somebody added by hand is no job.
      row = state and {number, state.stage, state.time, text(state.attempt), state.error or ''}
    end
    if row then
      for _, value in ipairs(one[2]) do
        n_bytes = n_bytes + #value
        table.insert(row, value)
      end
      if #answer > 0 and n_bytes > most then return answer end
      table.insert(answer, row)
    end
  end
end
return answer
