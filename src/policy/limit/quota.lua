-- One quota, one key. ARGV: period, number, nothing, nothing, how many are wanted (fewer than none are given back, none
-- only looks), how many at least were admitted while no host could ask. Answers how many are given, how many are left,
-- and in how many microseconds the period ends.
local period, number, want, owed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = tonumber(time[1])
local HOUR, DAY = 3600, 86400

-- The date of a day since 1970, and the day of a date, by years that begin in March.
local function date(day)
  local days = day + 719468
  local era = math.floor(days / 146097)
  local rest = days - era * 146097
  local year = math.floor((rest - math.floor(rest / 1460) + math.floor(rest / 36524) - math.floor(rest / 146096)) / 365)
  rest = rest - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * rest + 2) / 153)
  if month < 10 then month = month + 3 else month = month - 9 end
  year = year + era * 400
  if month <= 2 then year = year + 1 end
  return year, month
end

local function first(year, month)
  if month > 12 then year, month = year + 1, month - 12 end
  if month > 2 then month = month - 3 else year, month = year - 1, month + 9 end
  local years = year * 365 + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return years + math.floor((153 * month + 2) / 5) - 719468
end

-- The second in which the period of another second ends.
local function ends(at)
  local day = math.floor(at / DAY)
  local year, month = date(day)
  if period == 'h' then return (math.floor(at / HOUR) + 1) * HOUR end
  if period == 'day' then return (day + 1) * DAY end
  if period == 'week' then return (math.floor((day + 3) / 7) * 7 + 4) * DAY end
  if period == 'month' then return first(year, month + 1) * DAY end
  return first(year + 1, 1) * DAY
end

local finish, count = ends(now), 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local before, at = string.match(kept, '^(%d+) (%d+)$')
  at = tonumber(at)
  if at >= finish then count = tonumber(before) end
  -- A clock that was set back: the next period has begun, and goes on.
  if at == ends(finish) and finish - now <= HOUR then finish = at end
end
count = math.max(count, math.min(number, owed))
local room = math.max(0, number - count)
local n = math.min(want, room)
if n ~= 0 or owed > 0 then
  count = math.max(0, count + n)
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', count, finish), 'PX', string.format('%.0f', (finish - now) * 1000))
end
return { n, math.max(0, number - count), (finish - now) * 1000000 - tonumber(time[2]) }
