-- Count a page of the open set, and note which of it are the oldest. Nothing is changed.
-- Pages follow the table, not the scores: these move all the time, and who moved would be counted twice
-- or never.
-- KEYS open   ARGV stem of the records' keys, cursor, count, ms after closing time, how many old ones,
--   lengths of time ..: what waits is counted by its age, up to each of them and above
-- Returns {now, next cursor ('0': that was all), payments overdue,
--   {{status ('' = none), aftercare, schema, how many}, ..},
--   {{status, aftercare, schema, id, tracked at (0 = no time)}, ..}, {how many of an age, ..}}
local stem, after, most = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
local groups, overdue, ages = {}, 0, {}
for i = 6, #ARGV + 1 do ages[i - 5] = 0 end

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
  if not groups[name] then groups[name] = {status, aftercare, schema, 0, oldest = {}, timeless = {}} end
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

local function count_age(age)
  local i = 1
  while ARGV[i + 5] and age > tonumber(ARGV[i + 5]) do i = i + 1 end
  ages[i] = ages[i] + 1
end

local page = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  local id = page[2][i]
  local status, aftercare, schema, tracked, closing = facts_of(id)
  local group = group_of(status, aftercare, schema)
  group[4] = group[4] + 1
  if tracked then note(group.oldest, tracked, id) elseif status ~= '' and #group.timeless < most then table.insert(group.timeless, id) end
  local waits = status == 'pending' or status == 'cancelling'
  if waits and tracked then count_age(now - tracked) end
  if waits and closing and now - math.max(closing, tracked or 0) > after then overdue = overdue + 1 end
end

local counts, old = {}, {}
for _, group in pairs(groups) do
  table.insert(counts, group)
  for _, one in ipairs(group.oldest) do table.insert(old, {group[1], group[2], group[3], one.id, one.at}) end
  for _, id in ipairs(group.timeless) do table.insert(old, {group[1], group[2], group[3], id, 0}) end
end
return {now, page[1], overdue, counts, old, ages}
