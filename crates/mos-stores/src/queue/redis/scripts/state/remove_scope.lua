-- ARGV: tenant.
for _, log in ipairs(redis.call('HKEYS', key('last'))) do redis.call('UNLINK', log_key(log)) end
for _, kind in ipairs({'values', 'versions', 'keys', 'last'}) do redis.call('UNLINK', key(kind)) end
return 1
