-- ARGV: tenant. Returns the generation of the cube that it was opened or closed for last; 0 for none.
return redis.call('HGET', key('owner'), 'generation') or '0'
