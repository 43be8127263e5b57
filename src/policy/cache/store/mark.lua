-- What bears one of these labels was purged now. Marks outlive every object that they can mean.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  -- Whatever stands here in place of the marks: with them is lost what they meant, so everything is purged.
  if redis.call('DEL', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 0, now) end
end
for _, label in ipairs(ARGV) do redis.call('HSET', KEYS[1], label, now) end
redis.call('EXPIRE', KEYS[1], 2592000)
return 1
