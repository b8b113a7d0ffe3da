-- Shared by the scripts of documents and logs. KEYS[1] is the prefix of every key, ARGV[1] the encoded name of the cube.
--
-- Of a tenant: `values` and `versions` (hashes by key; the latter outlives the document), `keys` (a sorted set of equal
-- scores, hence in the order of bytes), `last` (a hash by encoded log: number of its last entry), a list per log, and
-- `owner` (a hash: `generation` of the cube that the tenant was opened or closed for last, `closed` when it takes nothing),
-- which outlives the cube.
local function key(kind) return KEYS[1] .. ':' .. kind .. ':' .. ARGV[1] end
local function log_key(log) return KEYS[1] .. ':log:' .. ARGV[1] .. ':' .. log end
local function text(number) return string.format('%.0f', number) end
local function is_closed() return redis.call('HGET', key('owner'), 'closed') == '1' end
local function erase()
  for _, log in ipairs(redis.call('HKEYS', key('last'))) do redis.call('UNLINK', log_key(log)) end
  for _, kind in ipairs({'values', 'versions', 'keys', 'last'}) do redis.call('UNLINK', key(kind)) end
end
