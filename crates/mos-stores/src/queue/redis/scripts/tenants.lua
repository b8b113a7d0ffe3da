-- Returns the tenants that have jobs.
return redis.call('SMEMBERS', P .. ':tenants')
