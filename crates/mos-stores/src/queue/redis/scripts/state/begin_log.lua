-- ARGV: tenant, log, number of its last entry. The log has no entries then. Returns 1; 0 when the cube was deleted.
if is_closed() then return 0 end
redis.call('HSET', key('last'), ARGV[2], ARGV[3])
redis.call('UNLINK', log_key(ARGV[2]))
return 1
