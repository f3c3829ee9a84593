-- Take up the deliveries that are due, one a lane, each for the length of a lease, and of each group of
-- lanes, which share an endpoint, no more at once than it may have: the others come soon after.
-- KEYS deliveries   ARGV stem of the lanes' names, lease ms, most, most of a group, most to look at,
--   JSON: by group {in hand, ms that one takes}
-- Returns {now, {{lane, group, entry}, ..}, ms of the next one; '' where there is none}
local deliveries, stem = KEYS[1], ARGV[1]
local lease, most, each = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local groups = cjson.decode(ARGV[6])
local now, taken = now_ms(), {}

-- A forward goes where its account's setting says, a callback to its own URL.
local function group_of(lane, entry)
  if string.sub(lane, 1, 8) == 'forward:' then return string.match(lane, '^forward:[^:]*') end
  return string.match(entry, '"url":"(https?://[^/?"]*)') or ''
end

for _, lane in ipairs(redis.call('ZRANGEBYSCORE', deliveries, '-inf', now, 'LIMIT', 0, ARGV[5])) do
  if #taken == most then break end
  local entry = redis.call('LINDEX', stem .. lane, 0)
  if not entry then
    redis.call('ZREM', deliveries, lane)
  else
    local name = group_of(lane, entry)
    local group = groups[name] or {0, 0}
    group[1] = group[1] + 1
    groups[name] = group
    local wait = lease
    if group[1] <= each then
      taken[#taken + 1] = {lane, name, entry}
    else -- about when its turn comes; never long, as the endpoint may be mended
      wait = math.min(math.floor(group[1] / each) * math.max(group[2], 10), 10000)
    end
    redis.call('ZADD', deliveries, string.format('%.0f', now + wait), lane)
  end
end
local first = redis.call('ZRANGE', deliveries, 0, 0, 'WITHSCORES')
return {now, taken, first[2] or ''}
