-- Count a page of a stream's entries by hour and type, without handing the entries themselves over.
-- KEYS stream   ARGV after this id, count, the types that are told apart ..
-- Returns {now, 1 if that id is there, last id counted ('' = none), {hour ms, type, how many, ..}}
local stream, after, count = KEYS[1], ARGV[1], ARGV[2]
local known = {}
for i = 3, #ARGV do known[ARGV[i]] = true end

local function type_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'type' and known[fields[i + 1]] then return fields[i + 1] end
  end
  return 'other'
end

local last, groups, flat = '', {}, {}
for _, entry in ipairs(redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', count)) do
  last = entry[1]
  local ms, type_ = tonumber(last:match('^%d+')), type_of(entry[2])
  local hour = string.format('%.0f', ms - ms % 3600000)
  local name = hour .. type_
  if not groups[name] then
    groups[name] = #flat + 3
    table.insert(flat, hour)
    table.insert(flat, type_)
    table.insert(flat, 0)
  end
  flat[groups[name]] = flat[groups[name]] + 1
end
local there = #redis.call('XRANGE', stream, after, after, 'COUNT', 1)
return {now_ms(), there, last, flat}
