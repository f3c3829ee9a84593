-- How long the oldest delivery waits: looked for among the lanes that are due first and those that are
-- due last, as the longer one waits, the longer are its delays.
-- KEYS deliveries   ARGV stem of the lanes' names, lanes to look at from either end
-- Returns {now, lanes, ms since it was written; -1 where there is none}
local deliveries, stem, most = KEYS[1], ARGV[1], tonumber(ARGV[2])
local now, oldest = now_ms(), -1
for _, ends in ipairs({{0, most - 1}, {-most, -1}}) do
  for _, lane in ipairs(redis.call('ZRANGE', deliveries, ends[1], ends[2])) do
    local at = string.match(redis.call('LINDEX', stem .. lane, 0) or '', '^{"v":1,"at":(%d+)')
    if at then oldest = math.max(oldest, now - tonumber(at)) end
  end
end
return {now, redis.call('ZCARD', deliveries), oldest}
