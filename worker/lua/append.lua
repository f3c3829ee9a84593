-- Add an entry to a stream. Run twice, it is there twice: only for what readers know by its id or body.
-- KEYS stream   ARGV field, value, ...   Returns {now}
redis.call('XADD', KEYS[1], '*', unpack(ARGV))
return {now_ms()}
