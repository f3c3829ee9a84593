-- Wake a page of overdue payments whose job is lost, or was in the hands of a worker that died.
-- Anybody may see in `swept` that a worker is at it.
-- KEYS open, queue, swept   ARGV prefix, grace ms, offset, count
-- Returns {now, payments looked at, payments woken}
local open, queue = KEYS[1], KEYS[2]
local prefix, grace, offset, count = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = now_ms()
redis.call('SET', KEYS[3], string.format('%.0f', now))
local ids = redis.call('ZRANGEBYSCORE', open, '-inf', string.format('%.0f', now - grace), 'LIMIT', offset, count)
local woken = 0
for _, id in ipairs(ids) do
  local job = prefix .. ':' .. id
  local queued = redis.call('ZSCORE', queue, job)
  -- Overdue: the lease has run out, or mail came while it runs. What arq still has in progress is a
  -- dead worker's, or one that will be fenced off: it does not hold up another.
  local dead = redis.call('DEL', 'arq:in-progress:' .. job) == 1
  if dead or not queued or tonumber(queued) > now or redis.call('EXISTS', 'arq:job:' .. job) == 0 then
    arm(queue, prefix, id, now, now)
    woken = woken + 1
  end
end
return {now, #ids, woken}
