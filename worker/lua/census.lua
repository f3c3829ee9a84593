-- Count a page of the open set, and note which of it are the oldest. Nothing is changed.
-- Pages follow the table, not the scores: these move all the time, and who moved would be counted twice
-- or never.
-- KEYS open   ARGV stem of the records' keys, cursor, count, ms after closing time, how many old ones
-- Returns {now, next cursor ('0': that was all), payments overdue,
--   {{status ('' = none), aftercare, schema, how many}, ..}, {{status, aftercare, id, tracked at}, ..}}
local stem, after, most = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
local groups, overdue = {}, 0

local function moment(text)
  return text and #text < 16 and text:match('^%d+$') and tonumber(text)
end

-- A key of another type is no payment, and must not hide the others: hence pcall.
local function facts_of(id)
  local found = redis.pcall('HMGET', stem .. id, 'status', 'aftercare', 'schema', 'trackedAt', 'closingTime')
  if found.err then return 'not a hash', '', '' end
  return found[1] or '', found[2] or '', found[3] or '', moment(found[4]), moment(found[5])
end

local function group_of(status, aftercare, schema)
  local name = status .. '\n' .. aftercare .. '\n' .. schema
  if not groups[name] then groups[name] = {status, aftercare, schema, 0, oldest = {}} end
  return groups[name]
end

local function note(oldest, at, id)
  if #oldest == most and (most == 0 or at >= oldest[most].at) then return end
  local place = math.min(#oldest + 1, most)
  while place > 1 and oldest[place - 1].at > at do
    oldest[place] = oldest[place - 1]
    place = place - 1
  end
  oldest[place] = {at = at, id = id}
end

local page = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  local id = page[2][i]
  local status, aftercare, schema, tracked, closing = facts_of(id)
  local group = group_of(status, aftercare, schema)
  group[4] = group[4] + 1
  if tracked then note(group.oldest, tracked, id) end
  local waits = status == 'pending' or status == 'cancelling'
  if waits and closing and now - closing > after then overdue = overdue + 1 end
end

local counts, old = {}, {}
for _, group in pairs(groups) do
  table.insert(counts, group)
  for _, one in ipairs(group.oldest) do table.insert(old, {group[1], group[2], one.id, one.at}) end
end
return {now, page[1], overdue, counts, old}
