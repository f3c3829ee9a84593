-- Put a dead delivery back into its lane, before all that came after it, and take it out of the dead.
-- KEYS dead, deliveries, lane   ARGV id of the dead entry, the lane's name, the entry, its number
-- Returns {now, 1; 0 where it is gone: somebody was first}
local dead, deliveries, lane = KEYS[1], KEYS[2], KEYS[3]
local id, name, entry, number = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = now_ms()
if #redis.call('XRANGE', dead, id, id) == 0 then return {now, 0} end
redis.call('XDEL', dead, '0-1') -- a right that we lack must stop us here: Lua undoes nothing
redis.call('ZCARD', deliveries)

local later, first = nil, false
for place, text in ipairs(redis.call('LRANGE', lane, 0, -1)) do
  if (tonumber(string.match(text, '^{"v":1,"at":%d+,"seq":(%d+)')) or 0) > number then
    later, first = text, place == 1
    break
  end
end
if later then redis.call('LINSERT', lane, 'BEFORE', later, entry) else redis.call('RPUSH', lane, entry) end
if first then
  redis.call('ZADD', deliveries, string.format('%.0f', now), name)
else
  redis.call('ZADD', deliveries, 'NX', string.format('%.0f', now), name)
end
redis.call('XDEL', dead, id)
return {now, 1}
