-- After a job has ended: queue the payment's next wake-up at the time that the open set says. A message
-- that came while the job ran has moved that time, so no wake-up is lost with the job.
-- KEYS open, queue   ARGV id, prefix   Returns {now, 1 if queued}
local now = now_ms()
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not at or at == 'inf' then return {now, 0} end
arm(KEYS[2], ARGV[2], ARGV[1], tonumber(at), now)
return {now, 1}
