-- What bears this label was purged now. Marks outlive every object that they can mean.
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now[1] * 1000000 + now[2]))
redis.call('EXPIRE', KEYS[1], 2592000)
return 1
