-- What an arq worker may start: due by Redis' clock, and in no worker's hands. arq's own look at the
-- queue goes by the worker's clock, and what other workers have in progress hides what lies behind it.
-- arq starts nothing that its clock finds early: for one that is behind, the job is moved forward.
-- KEYS queue   ARGV the worker's time ms, offset, count   Returns {now, {job ids}}
local queue, its_time = KEYS[1], tonumber(ARGV[1])
local from, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local free = {}
repeat
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', from, count)
  for i = 1, #page, 2 do
    if #free < count and redis.call('EXISTS', 'arq:in-progress:' .. page[i]) == 0 then
      if tonumber(page[i + 1]) > its_time then redis.call('ZADD', queue, string.format('%.0f', its_time), page[i]) end
      free[#free + 1] = page[i]
    end
  end
  from = from + count
until #free == count or #page < 2 * count
return {now, free}
