-- When the last of these labels was purged; 0 for never.
local last = 0
local marks = redis.pcall('HMGET', KEYS[1], unpack(ARGV))
if marks.err then
  -- Something else stands in place of the marks: with them is lost what they meant, so everything is purged.
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 0, string.format('%.0f', now))
  redis.call('EXPIRE', KEYS[1], 2592000)
  return now
end
for _, at in ipairs(marks) do
  if at and tonumber(at) > last then last = tonumber(at) end
end
return last
