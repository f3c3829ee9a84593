-- Let a payment's call leave, or put the payment in line and wake it when its turn comes. Who was called
-- from the line (release.lua) may leave; who comes along may, if nobody waits and there are tokens.
-- Nothing of this is written into the record. The score in the open set moves ahead, so that no sweep
-- wakes those who wait; it also brings back whoever is forgotten, by whatever accident.
-- KEYS limits, waiting, payment, inbox, open, queue
-- ARGV id, prefix, version, rank, ms until it comes back unasked, calls in 1000 s (0: any number), burst, chunk,
--   free ('1': it may leave without being called)
-- Returns {now, tokens for this call and more (-1: it was called; 0: it waits, or another worker holds it),
--   how many wait}
local limits, waiting, payment, inbox, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, version, rank, queue = ARGV[1], ARGV[3], ARGV[4], KEYS[6]
local now, wait = now_ms(), redis.call('ZCOUNT', waiting, 0, '+inf')
local place = redis.call('ZSCORE', waiting, id)

if place and tonumber(place) < 0 then
  redis.call('ZREM', waiting, id)
  if now + tonumber(place) <= 30000 then return {now, -1, wait} end
  place = nil -- it was called long ago, and has been elsewhere since
end
if ARGV[9] == '1' and wait == 0 then
  local tokens = take_tokens(limits, now, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]))
  if tokens > 0 then return {now, tokens, 0} end
end
if redis.call('HGET', payment, 'version') ~= version then return {now, 0, wait} end
if redis.call('LLEN', inbox) == 0 then
  local back = string.format('%.0f', now + tonumber(ARGV[5]))
  redis.call('ZADD', open, 'XX', back, id)
  redis.call('ZADD', queue, 'XX', back, ARGV[2] .. ':' .. id)
end
redis.call('ZADD', waiting, rank, id)
return {now, 0, place and wait or wait + 1}
