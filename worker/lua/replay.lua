-- Write a dead command into the stream of commands again, and take it out of the dead ones.
-- KEYS dead, commands   ARGV id of the dead entry, field, value, ...
-- Returns {now, id of the new entry; '' where the dead one is gone: somebody was first}
local dead, commands = KEYS[1], KEYS[2]
local now = now_ms()
if #redis.call('XRANGE', dead, ARGV[1], ARGV[1]) == 0 then return {now, ''} end
redis.call('XDEL', dead, '0-1') -- a right that we lack must stop us here: Lua undoes nothing
local id = redis.call('XADD', commands, '*', unpack(ARGV, 2))
redis.call('XDEL', dead, ARGV[1])
return {now, id}
