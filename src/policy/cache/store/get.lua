-- An object, and what time it is by the clock of this Redis, in microseconds.
local now = redis.call('TIME')
return { now[1] * 1000000 + now[2], redis.call('GET', KEYS[1]) }
