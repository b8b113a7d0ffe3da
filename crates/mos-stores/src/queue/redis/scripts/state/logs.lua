-- ARGV: tenant. Returns names of logs, encoded, and the number of the last entry of each, in turn.
return redis.call('HGETALL', key('last'))
