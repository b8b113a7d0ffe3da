-- Shared by the scripts of documents and logs. KEYS[1] is the prefix of every key, ARGV[1] the encoded name of the cube.
--
-- Of a tenant: `values` and `versions` (hashes by key; the latter outlives the document), `keys` (a sorted set of equal
-- scores, hence in the order of bytes), `last` (a hash by encoded log: number of its last entry), and a list per log.
local function key(kind) return KEYS[1] .. ':' .. kind .. ':' .. ARGV[1] end
local function log_key(log) return KEYS[1] .. ':log:' .. ARGV[1] .. ':' .. log end
local function text(number) return string.format('%.0f', number) end
