-- An object, and what time it is by the clock of this Redis, in microseconds. What is no object is none.
local now = redis.call('TIME')
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then found = false end
return { now[1] * 1000000 + now[2], found }
