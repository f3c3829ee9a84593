-- Shared by all scripts. Time is Redis time in milliseconds: no other clock decides anything.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A version rises with time, not by counting: one that was used before an erasure, or that a power cut
-- took back, must never be met again by a worker that still holds it.
local function next_version(version, now)
  return math.max(tonumber(version or 0) + 1, now)
end

-- Queue the payment's one arq job at `at`: create it, move it, or repair what is left of it. Key and
-- payload layout are arq's. Thirty days beyond `at` no payload expires before its time.
local function arm(queue, prefix, id, at, now)
  local job = prefix .. ':' .. id
  local payload = '{"v":1,"t":null,"f":"follow_payment","a":[' .. cjson.encode(id) .. '],"k":{},"et":' .. string.format('%.0f', now) .. '}'
  local ttl = math.max(0, at - now) + 2592000000
  redis.call('SET', 'arq:job:' .. job, payload, 'PX', string.format('%.0f', ttl))
  redis.call('ZADD', queue, string.format('%.0f', at), job)
  redis.call('DEL', 'arq:retry:' .. job) -- tries count for nothing, and no number there ends arq's worker
end

-- Queue it for the mail in its inbox, before all that is merely due: a time in seconds is less than any in ms.
local function arm_for_mail(queue, prefix, id, now)
  arm(queue, prefix, id, now, now)
  redis.call('ZADD', queue, string.format('%.3f', now / 1000), prefix .. ':' .. id)
end

-- Forget a job, and all that arq keeps of it.
local function disarm(queue, job)
  redis.call('DEL', 'arq:job:' .. job, 'arq:retry:' .. job)
  redis.call('ZREM', queue, job)
end

-- Take up to `most` tokens, each for one call, from an account's bucket: `rate` of them come in 1000 s,
-- at most `burst` are kept. They are counted in millionths, so that all figures are whole.
local function take_tokens(limits, now, rate, burst, most)
  if rate == 0 then return most end
  local found = redis.call('HMGET', limits, 'tokens', 'at')
  local full = burst * 1000000
  local past = now - (tonumber(found[2]) or 0)
  local tokens = math.min(full, (tonumber(found[1]) or full) + math.max(past, 0) * rate)
  local taken = math.max(math.min(math.floor(tokens / 1000000), most), 0)
  redis.call('HSET', limits, 'tokens', string.format('%.0f', tokens - taken * 1000000), 'at', string.format('%.0f', now))
  return taken
end

local function return_tokens(limits, rate, tokens)
  if rate ~= 0 and tokens > 0 then redis.call('HINCRBY', limits, 'tokens', string.format('%.0f', tokens * 1000000)) end
end
