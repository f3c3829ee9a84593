-- Write what was decided, whole or not at all: record, timeline, open set, events, inbox, and the payment's
-- job, which is queued for whenever the open set says.
-- KEYS payment, timeline, inbox, open, outcomes, brake, parked, queue, deliveries, lane
-- ARGV[1] JSON: id, client, prefix, expect (version read; null = must be new), fields [k,v,..],
--   at (next action: ms, 'never' or ''), ttl (ms, 0 = none), heard (messages applied), left (messages that
--   the holder knows of and has yet to apply), alone (bool),
--   entries [{json, key}..], events [[k,v,..]..], found (bool), missed (bool),
--   brake (misses in a row from which this must not be written; 0 = it may),
--   lane (its name), callbacks [json..]
-- Returns {now, the new version}, or {now, 0} where another was first and nothing is changed.
local payment, timeline, inbox, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local outcomes, brake, parked, queue = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local deliveries, lane = KEYS[9], KEYS[10]
local d = cjson.decode(ARGV[1])
local now = now_ms()

local version = redis.call('HGET', payment, 'version')
if d.expect == cjson.null then
  if version then return {now, 0} end
elseif tonumber(version or -1) ~= d.expect then
  return {now, 0}
end
local mail = redis.call('LLEN', inbox) - d.heard
if d.alone and mail > 0 then return {now, 0} end
if d.brake > 0 and tonumber(redis.call('HGET', brake, d.client) or 0) >= d.brake then return {now, 0} end

-- A key of the wrong type must stop us here, not half-way: Lua undoes nothing.
redis.call('LLEN', timeline)
redis.call('ZCARD', open)
redis.call('XLEN', outcomes)
redis.call('HLEN', brake)
redis.call('ZCARD', parked)
redis.call('ZCARD', queue)
redis.call('ZCARD', deliveries)
redis.call('LLEN', lane)

redis.call('DEL', payment)
redis.call('HSET', payment, unpack(d.fields))
local new_version = next_version(version, now)
redis.call('HSET', payment, 'version', string.format('%.0f', new_version))
if d.heard > 0 then redis.call('LTRIM', inbox, d.heard, -1) end
if d.expect == cjson.null then redis.call('ZREM', parked, d.id) end

-- Equal neighbours in the timeline are one entry with a count.
for _, entry in ipairs(d.entries) do
  local line = cjson.decode(entry)
  local last = redis.call('LINDEX', timeline, -1)
  local readable, same = pcall(cjson.decode, last or '')
  if readable and type(same) == 'table' and same.source == line.source and same.what == line.what and same.detail == line.detail then
    same.count = (tonumber(same.count) or 1) + 1
    same['until'] = line.at
    redis.call('LSET', timeline, -1, cjson.encode(same))
  else
    redis.call('RPUSH', timeline, entry)
  end
end
redis.call('LTRIM', timeline, -200, -1)

for _, fields in ipairs(d.events) do redis.call('XADD', outcomes, '*', unpack(fields)) end
for _, callback in ipairs(d.callbacks) do redis.call('RPUSH', lane, callback) end
if #d.callbacks > 0 then redis.call('ZADD', deliveries, 'NX', string.format('%.0f', now), d.lane) end

local at = d.at
if mail > d.left then
  redis.call('ZADD', open, string.format('%.0f', now), d.id)
  arm_for_mail(queue, d.prefix, d.id, now)
elseif at == '' then
  redis.call('ZREM', open, d.id)
  disarm(queue, d.prefix .. ':' .. d.id)
elseif at == 'never' then
  redis.call('ZADD', open, '+inf', d.id)
  disarm(queue, d.prefix .. ':' .. d.id)
else
  redis.call('ZADD', open, at, d.id)
  arm(queue, d.prefix, d.id, tonumber(at), now)
end

if d.ttl > 0 then
  redis.call('PEXPIRE', payment, d.ttl)
  redis.call('PEXPIRE', timeline, d.ttl)
else
  redis.call('PERSIST', timeline)
end

if d.found then redis.call('HDEL', brake, d.client) end
if d.missed then redis.call('HINCRBY', brake, d.client, 1) end
return {now, new_version}
