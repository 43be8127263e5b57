-- One limit, one key. ARGV: algorithm, number, period in microseconds, burst, how many are wanted (fewer than none are
-- given back), how many at least were admitted while no host could ask. Answers how many are given, how many are left, and in how many
-- microseconds that changes.
local kind, number, period, burst = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local want, owed = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = redis.call('GET', KEYS[1])

-- A remainder of computing with fractions is no request.
local function whole(room)
  return math.max(0, math.floor(room + 1e-9))
end

local function given(room)
  if want < 0 then return want end
  return math.min(want, whole(room))
end

local function keep(text, long)
  redis.call('SET', KEYS[1], text, 'PX', math.ceil(long / 1000) + 1)
end

local function token_bucket()
  local debt = 0
  if kept then
    local before, at = string.match(kept, '^(%S+) (%d+)$')
    debt = math.max(0, tonumber(before) - math.max(0, now - tonumber(at)) * number / period)
  end
  debt = math.min(burst, math.max(debt, owed))
  local n = given(burst - debt)
  debt = math.max(0, debt + n)
  keep(string.format('%.17g %.0f', debt, now), debt * period / number)
  local reset = debt
  if n < want then reset = math.max(0, debt + 1 - burst) end
  return n, whole(burst - debt), reset * period / number
end

local function fixed_window()
  local count, finish = 0, now + period
  if kept then
    local before, at = string.match(kept, '^(%d+) (%d+)$')
    if now < tonumber(at) then
      count, finish = tonumber(before), math.min(tonumber(at), finish)
    end
  end
  count = math.max(count, math.min(number, owed))
  local n = given(number - count)
  count = math.max(0, count + n)
  keep(string.format('%.0f %.0f', count, finish), finish - now)
  return n, whole(number - count), finish - now
end

local PARTS = 11

-- The counts of the last eleven parts, the newest first.
local function parts(length)
  local newest, counts, old = math.floor(now / length), {}, {}
  for i = 1, PARTS do counts[i] = 0 end
  for word in string.gmatch(kept or '', '%d+') do old[#old + 1] = tonumber(word) end
  if old[2] == length then
    local gone = math.max(0, newest - old[1])
    newest = math.max(newest, old[1])
    for i = 1, PARTS - gone do counts[i + gone] = old[i + 2] end
  elseif kept and now < (old[1] + PARTS) * old[2] then
    for i = 1, PARTS do counts[1] = counts[1] + old[i + 2] end
  end
  return newest, counts
end

local function sliding_window()
  local length = math.ceil(period / 10)
  local newest, counts = parts(length)
  local sum = 0
  for i = 1, PARTS do sum = sum + counts[i] end
  local late = math.max(0, math.min(owed, number) - sum)
  counts[1], sum = counts[1] + late, sum + late
  local n = given(number - sum)
  if n >= 0 then
    counts[1], sum = counts[1] + n, sum + n
  else
    for i = 1, PARTS do
      local less = math.min(counts[i], -n)
      counts[i], n, sum = counts[i] - less, n + less, sum - less
    end
  end
  local finish = (newest + PARTS) * length
  keep(string.format('%.0f %.0f ', newest, length) .. table.concat(counts, ' '), finish - now)
  local stay, age = sum, PARTS
  if n < want then
    while age > 0 and stay - counts[age] >= number do
      stay, age = stay - counts[age], age - 1
    end
    finish = (newest + PARTS - (age - 1)) * length
  end
  return n, whole(number - sum), finish - now
end

local algorithms = { token_bucket = token_bucket, fixed_window = fixed_window, sliding_window = sliding_window }
local n, left, reset = algorithms[kind]()
return { n, left, math.ceil(reset) }
