-- Take up the jobs that are due by Redis' clock, the earliest first, each for the length of a lease: its score
-- in the queue is moved there, so that nobody else finds it before. The score is the fence: who ends a job
-- must name it, and has lost the job if it is another one. Of a payment that is open the id is all there is
-- to know: `claim` takes hold of it. What stock arq has in progress is left to it.
-- KEYS queue, open   ARGV prefix, lease ms, most
-- Returns {now, score, {ids of open payments}, {{job id, payload ('' = none), tries}..}}
local queue, open = KEYS[1], KEYS[2]
local prefix, lease, most = ARGV[1] .. ':', tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local score = string.format('%.0f', now + lease)
local payments, others, from = {}, {}, 0

-- A key of another type, or a count that is none, is somebody's slip: it must not hide the others.
local function get(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and found or ''
end

local function take(job)
  local id = string.sub(job, 1, #prefix) == prefix and string.sub(job, #prefix + 1)
  redis.call('ZADD', queue, score, job)
  if id and redis.call('ZSCORE', open, id) then
    payments[#payments + 1] = id
  else
    local tries = (tonumber(get('arq:retry:' .. job)) or 0) + 1
    redis.call('SET', 'arq:retry:' .. job, string.format('%.0f', tries), 'PX', 88400000)
    others[#others + 1] = {job, get('arq:job:' .. job), string.format('%.0f', tries)}
  end
end

repeat
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', string.format('%.0f', now), 'LIMIT', from, most)
  for _, job in ipairs(page) do
    if redis.call('EXISTS', 'arq:in-progress:' .. job) == 1 then
      from = from + 1
    elseif #payments + #others < most then
      take(job)
    end
  end
until #payments + #others >= most or #page < most
return {now, score, payments, others}
