-- Forget a payment that has ended: record and timeline, if nobody changed it meanwhile.
-- Mail that came for it and was never heard is parked, as that of a payment nobody tracks.
-- KEYS payment, timeline, open, inbox, parked   ARGV id, version   Returns {now, 1 or 0}
local now = now_ms()
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[2] then return {now, 0} end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('EXISTS', KEYS[4]) == 1 then redis.call('ZADD', KEYS[5], string.format('%.0f', now), ARGV[1]) end
return {now, 1}
