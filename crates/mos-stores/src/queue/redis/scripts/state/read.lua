-- ARGV: tenant, key. Returns value and version; nothing for no document.
local value = redis.call('HGET', key('values'), ARGV[2])
return value and {value, redis.call('HGET', key('versions'), ARGV[2]) or '0'} or {}
