-- Find a page of payments that should have ended long ago and that nobody was told of. Whoever is given
-- one has a minute to tell; if that worker dies first, the payment is given out again.
-- KEYS open, stuck   ARGV stem of the records' keys, stem of the timelines' keys, ms after closing time,
--   offset, count, how many to give at most, lines of history
-- Returns {now, payments looked at, {{id, ms past its closing time, fields, last lines of its timeline}, ..}}
local open, stuck = KEYS[1], KEYS[2]
local after, offset, count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local most, lines = tonumber(ARGV[6]), tonumber(ARGV[7])
local now = now_ms()

-- How long a payment is past its closing time, where we have had too long to end it: one that was
-- tracked late gets its time from then on. A key of another type is no payment, and must not hide the
-- others: hence pcall.
local function overdue(id)
  local found = redis.pcall('HMGET', ARGV[1] .. id, 'status', 'closingTime', 'trackedAt')
  local waits = found[1] == 'pending' or found[1] == 'cancelling'
  local closing, tracked = tonumber(found[2]) or 0, tonumber(found[3]) or 0
  return waits and now - math.max(closing, tracked) > after and now - closing
end

if offset == 0 then -- what has ended since, or may take longer, is stuck no more
  for _, id in ipairs(redis.call('ZRANGE', stuck, 0, -1)) do
    if not overdue(id) then redis.call('ZREM', stuck, id) end
  end
end

local ids = redis.call('ZRANGE', open, offset, offset + count - 1)
local found = {}
for _, id in ipairs(ids) do
  local told = tonumber(redis.call('ZSCORE', stuck, id) or 0)
  local past = #found < most and told <= now and overdue(id)
  if past then
    redis.call('ZADD', stuck, string.format('%.0f', now + 60000), id)
    local history = redis.pcall('LRANGE', ARGV[2] .. id, -lines, -1)
    table.insert(found, {id, past, redis.call('HGETALL', ARGV[1] .. id), history.err and {} or history})
  end
end
return {now, #ids, found}
