-- Keep a verified notification, once, and wake the payment's job; park it if nobody tracks it.
-- KEYS payment, inbox, open, parked, heard, queue, quarantine
-- ARGV id, prefix, entry, digest, digest ttl ms, parks ('1': worth keeping for an untracked payment),
--   and only for one to be quarantined as well: client id, payment request id, reason, body
-- Returns {now, 'accepted' | 'parked' | 'duplicate' | 'untracked'}
local payment, inbox, open, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local heard, queue, quarantine = KEYS[5], KEYS[6], KEYS[7]
local id, prefix, entry, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = now_ms()

-- The digest is written last: Lua undoes nothing, and what could not be kept must not count as heard.
local function hear(result)
  redis.call('SADD', heard, digest)
  redis.call('PEXPIRE', heard, ARGV[5])
  return {now, result}
end

if redis.call('SISMEMBER', heard, digest) == 1 then return hear('duplicate') end
if ARGV[7] then
  redis.call('XADD', quarantine, '*', 'clientId', ARGV[7], 'paymentRequestId', ARGV[8], 'reason', ARGV[9], 'body', ARGV[10])
end

if redis.call('EXISTS', payment) == 1 then
  redis.call('RPUSH', inbox, entry)
  local due = redis.call('ZSCORE', open, id)
  if not due or tonumber(due) > now then redis.call('ZADD', open, string.format('%.0f', now), id) end
  arm(queue, prefix, id, now, now)
  return hear('accepted')
end
if ARGV[6] ~= '1' then return hear('untracked') end
redis.call('RPUSH', inbox, entry)
redis.call('ZADD', parked, 'NX', string.format('%.0f', now), id)
return hear('parked')
