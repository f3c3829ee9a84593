-- Take hold of a payment that is due: one worker gets it, for the length of a lease.
-- The new version is the fencing token: whoever held the payment before can save nothing any more.
-- A record of another schema is shown and not touched: it is for a worker that can read it, and the sweep
-- offers it again. Whatever is found, the payment's job follows it.
-- KEYS payment, inbox, open, brake, queue   ARGV id, client id, lease ms ('' = just look), schema, prefix
-- Returns {now, fields, inbox, misses, ms after its time}; fields and inbox are empty where there is nothing
-- to do, misses is -1 where there should have been something: the payment's record is gone.
local payment, inbox, open, brake, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, client, lease, schema = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now, late = now_ms(), 0
if lease ~= '' then
  local job = ARGV[5] .. ':' .. id
  local due = redis.call('ZSCORE', open, id)
  if not due or due == 'inf' then
    disarm(queue, job)
    return {now, {}, {}, 0, 0}
  end
  if tonumber(due) > now then -- in other hands, or woken before its time
    redis.call('ZADD', queue, due, job)
    return {now, {}, {}, 0, 0}
  end
  if redis.call('EXISTS', payment) == 0 then
    redis.call('ZREM', open, id) -- nothing is left to wake for
    disarm(queue, job)
    return {now, {}, {}, -1, 0}
  end
  if redis.call('HGET', payment, 'schema') ~= schema then
    disarm(queue, job)
    return {now, redis.call('HGETALL', payment), {}, 0, 0}
  end
  late = now - tonumber(due)
  local over = string.format('%.0f', now + lease)
  redis.call('ZADD', open, over, id)
  redis.call('ZADD', queue, over, job)
  local version = next_version(redis.call('HGET', payment, 'version'), now)
  redis.call('HSET', payment, 'version', string.format('%.0f', version))
end
local misses = redis.call('HGET', brake, client)
return {now, redis.call('HGETALL', payment), redis.call('LRANGE', inbox, 0, -1), tonumber(misses or 0) or 0, late}
