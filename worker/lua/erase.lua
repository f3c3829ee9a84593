-- Forget a payment that has ended: record and timeline, if nobody changed it meanwhile.
-- KEYS payment, timeline, open   ARGV id, version   Returns {now, 1 or 0}
local now = now_ms()
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[2] then return {now, 0} end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return {now, 1}
