-- ARGV: tenant, first key as `ZRANGE` takes it, prefix, most keys. Returns keys in the order of their bytes. No text has a
-- byte 255, so that every key that begins with the prefix comes before the prefix with one.
return redis.call('ZRANGE', key('keys'), ARGV[2], '(' .. ARGV[3] .. '\255', 'BYLEX', 'LIMIT', 0, ARGV[4])
