-- Wake a page of overdue payments whose job is lost, or was in the hands of a worker that died.
-- Anybody may see in `swept` when a worker last did it.
-- KEYS open, queue, swept   ARGV prefix, grace ms, offset, count
-- Returns {now, payments looked at, payments woken, ids without a record: these are taken out}
local open, queue = KEYS[1], KEYS[2]
local prefix, grace, offset, count = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', open, '-inf', string.format('%.0f', now - grace), 'LIMIT', offset, count)

local function wake_if_lost(id)
  local job = prefix .. ':' .. id
  local queued = redis.call('ZSCORE', queue, job)
  -- Overdue: the lease has run out, or mail came while it runs. What arq still has in progress is a
  -- dead worker's, or one that will be fenced off: it does not hold up another.
  local dead = redis.call('DEL', 'arq:in-progress:' .. job) == 1
  if not dead and queued and tonumber(queued) <= now and redis.call('EXISTS', 'arq:job:' .. job) == 1 then return 0 end
  arm(queue, prefix, id, now, now)
  return 1
end

local woken, gone = 0, {}
for _, id in ipairs(ids) do
  if redis.call('EXISTS', prefix .. ':v1:payment:' .. id) == 1 then
    woken = woken + wake_if_lost(id)
  else
    redis.call('ZREM', open, id)
    table.insert(gone, id)
  end
end
redis.call('SET', KEYS[3], string.format('%.0f', now)) -- last: a sweep that fails is none
return {now, #ids, woken, gone}
