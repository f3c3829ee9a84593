-- Put a quarantined notification into its payment's inbox and wake the payment's job, or park it; and
-- take it out of quarantine.
-- KEYS quarantine, payment, inbox, open, parked, queue
-- ARGV id of the quarantined entry, payment's id, prefix, mail, parks ('1': also where nobody tracks it)
-- Returns {now, 'accepted' | 'parked' | 'untracked' | 'gone'}
local quarantine, payment, inbox, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local parked, queue = KEYS[5], KEYS[6]
local entry, id, prefix, mail, parks = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = now_ms()
if #redis.call('XRANGE', quarantine, entry, entry) == 0 then return {now, 'gone'} end

local tracked = redis.call('EXISTS', payment) == 1
if not tracked and parks ~= '1' then return {now, 'untracked'} end
redis.call('XDEL', quarantine, '0-1') -- a right that we lack must stop us here: Lua undoes nothing
redis.call('RPUSH', inbox, mail)
if tracked then
  local due = redis.call('ZSCORE', open, id)
  if not due or tonumber(due) > now then redis.call('ZADD', open, string.format('%.0f', now), id) end
  arm_for_mail(queue, prefix, id, now)
else
  redis.call('ZADD', parked, 'NX', string.format('%.0f', now), id)
end
redis.call('XDEL', quarantine, entry)
return {now, tracked and 'accepted' or 'parked'}
