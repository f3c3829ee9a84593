-- End a job that `take` gave: forget it, or put it off, or bury it among the dead commands. Who has lost it to
-- another changes nothing.
-- KEYS queue, dead   ARGV job id, its score, ms to put it off ('' = it is over), fields of a dead command..
-- Returns {now, 1, or 0 where it was lost}
local queue, dead = KEYS[1], KEYS[2]
local job, score, delay = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local held = redis.call('ZSCORE', queue, job)
if not held or tonumber(held) ~= tonumber(score) then return {now, 0} end
if #ARGV > 3 then redis.call('XADD', dead, '*', unpack(ARGV, 4)) end
if delay ~= '' then
  redis.call('ZADD', queue, string.format('%.0f', now + tonumber(delay)), job)
else
  disarm(queue, job)
end
return {now, 1}
