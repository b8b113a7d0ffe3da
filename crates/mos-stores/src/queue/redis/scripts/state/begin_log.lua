-- ARGV: tenant, log, number of its last entry. The log has no entries then.
redis.call('HSET', key('last'), ARGV[2], ARGV[3])
redis.call('UNLINK', log_key(ARGV[2]))
return 1
