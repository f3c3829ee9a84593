-- Move notifications of a payment that was never tracked to quarantine.
-- KEYS parked, inbox, payment, quarantine   ARGV id, oldest parking time ms, client id, payment request id
-- Returns {now, messages moved}
local now = now_ms()
local since = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not since or tonumber(since) > tonumber(ARGV[2]) or redis.call('EXISTS', KEYS[3]) == 1 then return {now, 0} end
local mail = redis.call('LRANGE', KEYS[2], 0, -1)
for _, entry in ipairs(mail) do
  redis.call('XADD', KEYS[4], '*', 'clientId', ARGV[3], 'paymentRequestId', ARGV[4], 'reason', 'never_tracked', 'message', entry)
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return {now, #mail}
