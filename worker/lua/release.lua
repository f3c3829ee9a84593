-- Call the first of those who wait in line: each is woken, and may leave when it comes (pass.lua).
-- A score of 0 and more is a place in line; one below is of who was called, and when.
-- KEYS limits, waiting, open, queue
-- ARGV prefix, calls in 1000 s (0: any number), burst, most to call, the first rank of repeats, most repeats,
--   free ('1': a probe, which needs no token), most to look at
-- Returns {now, called, how many wait}
local limits, waiting, open, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix, first_repeat = ARGV[1], ARGV[5]
local now, look = now_ms(), tonumber(ARGV[8])
redis.call('ZCARD', open) -- a key of the wrong type must stop us here, not half-way: Lua undoes nothing
redis.call('ZCARD', queue)

-- Called half a minute ago, and never came: the open set has them due, and so the sweep.
redis.call('ZREMRANGEBYSCORE', waiting, string.format('(-%.0f', now - 30000), '(0')

-- It still waits if by its record it is due: mail may have ended it, or put it off. A key of another type is
-- no payment, and must not hide the others: hence pcall.
local function waits(id)
  local at = tonumber(redis.pcall('HGET', prefix .. ':v1:payment:' .. id, 'nextInquiryAt'))
  return at and at <= now and redis.call('ZSCORE', open, id)
end

local function call(low, high, most)
  local called = 0
  while called < most and look > 0 do
    local ids = redis.call('ZRANGEBYSCORE', waiting, low, high, 'LIMIT', 0, math.min(most - called, look))
    if #ids == 0 then break end
    look = look - #ids
    for _, id in ipairs(ids) do
      if waits(id) then
        redis.call('ZADD', waiting, string.format('-%.0f', now), id)
        redis.call('ZADD', open, string.format('%.0f', now), id)
        arm(queue, prefix, id, now, now)
        called = called + 1
      else
        redis.call('ZREM', waiting, id)
      end
    end
  end
  return called
end

local rate, most = tonumber(ARGV[2]), tonumber(ARGV[4])
local tokens = ARGV[7] == '1' and most or take_tokens(limits, now, rate, tonumber(ARGV[3]), most)
local called = call('0', '(' .. first_repeat, tokens)
called = called + call(first_repeat, '+inf', math.min(tokens - called, tonumber(ARGV[6])))
if ARGV[7] ~= '1' then return_tokens(limits, rate, tokens - called) end
return {now, called, redis.call('ZCOUNT', waiting, 0, '+inf')}
