-- Note that somebody was told of a stuck payment.
-- KEYS stuck   ARGV id   Returns {now}
redis.call('ZADD', KEYS[1], 'XX', '+inf', ARGV[1])
return {now_ms()}
