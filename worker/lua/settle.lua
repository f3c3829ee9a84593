-- Write down what became of a delivery, if it is still the first of its lane: somebody else may have
-- settled it meanwhile.
-- KEYS deliveries, lane, dead
-- ARGV the lane's name, the entry, fate: 'delivered', 'again', 'dead', or 'gone' for the whole lane;
--   fault, tries, and for 'again' ms until the next try, the entry as it is now
-- Returns {now, 1 or 0, ids of what is dead now}
local deliveries, lane, dead = KEYS[1], KEYS[2], KEYS[3]
local name, entry, fate, fault, tries = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now, buried = now_ms(), {}
if redis.call('LINDEX', lane, 0) ~= entry then return {now, 0, buried} end
redis.call('ZCARD', deliveries)
redis.call('XLEN', dead)

if fate == 'again' then
  redis.call('LSET', lane, 0, ARGV[7])
  redis.call('ZADD', deliveries, string.format('%.0f', now + tonumber(ARGV[6])), name)
  return {now, 1, buried}
end

local function bury(text, attempts)
  local readable, said = pcall(cjson.decode, text)
  if not readable or type(said) ~= 'table' then said = {} end
  local id = tostring(said.id or '')
  redis.call('XADD', dead, '*', 'lane', name, 'id', id, 'paymentRequestId', tostring(said.about or ''),
    'url', tostring(said.url or ''), 'fault', fault, 'attempts', attempts, 'entry', text)
  buried[#buried + 1] = id
end

if fate == 'gone' then
  for place, text in ipairs(redis.call('LRANGE', lane, 0, -1)) do bury(text, place == 1 and tries or '0') end
  redis.call('DEL', lane)
else
  if fate == 'dead' then bury(entry, tries) end
  redis.call('LPOP', lane)
end
if redis.call('EXISTS', lane) == 1 then
  redis.call('ZADD', deliveries, string.format('%.0f', now), name)
else
  redis.call('ZREM', deliveries, name)
end
return {now, 1, buried}
