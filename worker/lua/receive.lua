-- Keep a verified notification, once, and wake the payment's job; park it if nobody tracks it.
-- KEYS payment, inbox, open, parked, heard, queue, quarantine, deliveries, lane
-- ARGV id, prefix, entry, digest, digest ttl ms, parks ('1': worth keeping for an untracked payment),
--   the lane's name and what is to be passed on there ('' and '': nothing),
--   and only for one to be quarantined as well: client id, payment request id, reason, body
-- Returns {now, 'accepted' | 'parked' | 'duplicate' | 'untracked'}
local payment, inbox, open, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local heard, queue, quarantine = KEYS[5], KEYS[6], KEYS[7]
local deliveries, lane = KEYS[8], KEYS[9]
local id, prefix, entry, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = now_ms()

-- The digest is written last: Lua undoes nothing, and what could not be kept must not count as heard.
local function hear(result)
  redis.call('SADD', heard, digest)
  redis.call('PEXPIRE', heard, ARGV[5])
  return {now, result}
end

if redis.call('SISMEMBER', heard, digest) == 1 then return hear('duplicate') end
if ARGV[8] ~= '' then
  redis.call('ZADD', deliveries, 'NX', string.format('%.0f', now), ARGV[7])
  redis.call('RPUSH', lane, ARGV[8])
end
if ARGV[9] then
  redis.call('XADD', quarantine, '*', 'clientId', ARGV[9], 'paymentRequestId', ARGV[10], 'reason', ARGV[11], 'body', ARGV[12])
end

if redis.call('EXISTS', payment) == 1 then
  redis.call('RPUSH', inbox, entry)
  local due = redis.call('ZSCORE', open, id)
  if not due or tonumber(due) > now then redis.call('ZADD', open, string.format('%.0f', now), id) end
  arm_for_mail(queue, prefix, id, now)
  return hear('accepted')
end
if ARGV[6] ~= '1' then return hear('untracked') end
redis.call('RPUSH', inbox, entry)
redis.call('ZADD', parked, 'NX', string.format('%.0f', now), id)
return hear('parked')
