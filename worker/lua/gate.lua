-- Read what all know of an account's line to the gateway, or change it if nobody has done so meanwhile;
-- and count calls. What it comes to is decided in jobs/limits.py.
-- KEYS limits, waiting   ARGV window ms, calls since last told, the gate as it was read, as it shall be ('': only read)
-- Returns {now, the gate, how many wait, calls in this window and the last one}
local limits, waiting = KEYS[1], KEYS[2]
local length, calls, was, new = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = now_ms()
local gate = redis.call('HGET', limits, 'gate') or ''
if new ~= '' and gate == was then
  redis.call('HSET', limits, 'gate', new)
  gate = new
end
local window = now - now % length
local found = redis.call('HMGET', limits, 'window', 'calls', 'before')
local behind = window - (tonumber(found[1]) or 0)
local count, before = tonumber(found[2]) or 0, tonumber(found[3]) or 0
if behind > 0 then count, before = 0, behind == length and count or 0 end
count = count + calls
if calls > 0 then
  redis.call('HSET', limits, 'window', string.format('%.0f', window), 'calls', count, 'before', before)
end
return {now, gate, redis.call('ZCOUNT', waiting, 0, '+inf'), count + before}
