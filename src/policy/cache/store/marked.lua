-- When the last of these labels was purged; 0 for never.
local last = 0
for _, at in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
  if at and tonumber(at) > last then last = tonumber(at) end
end
return last
