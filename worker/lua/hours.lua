-- Count a page of a stream's entries by hour and type, without handing the entries themselves over.
-- KEYS stream   ARGV after this id, count, the types that are told apart ..
-- Returns {now, newest id of all, last id counted, {hour ms, type, count, ..}}; an id is '' where there is none
local stream, after, count = KEYS[1], ARGV[1], ARGV[2]
local known = {}
for i = 3, #ARGV do known[ARGV[i]] = true end

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', count)
local counts, order, last = {}, {}, ''
for _, entry in ipairs(entries) do
  last = entry[1]
  local type_, fields = 'other', entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'type' and known[fields[i + 1]] then type_ = fields[i + 1] end
  end
  local ms = tonumber(string.match(last, '^%d+'))
  local key = string.format('%.0f', ms - ms % 3600000) .. ' ' .. type_
  if not counts[key] then order[#order + 1] = key end
  counts[key] = (counts[key] or 0) + 1
end

local flat = {}
for _, key in ipairs(order) do
  local hour, type_ = string.match(key, '^(%d+) (.*)$')
  flat[#flat + 1] = hour
  flat[#flat + 1] = type_
  flat[#flat + 1] = counts[key]
end
return {now_ms(), newest[1] and newest[1][1] or '', last, flat}
