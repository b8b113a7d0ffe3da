-- ARGV: tenant, key. Returns whether there was a document. Its version stays, so that it counts on.
redis.call('ZREM', key('keys'), ARGV[2])
return redis.call('HDEL', key('values'), ARGV[2])
