-- Replaces a reporter's load report.
--
-- KEYS[1] report
-- KEYS[2] set of reporters
-- ARGV[1] reporter
-- ARGV[2] bytes
-- ARGV[3] ms for which it counts
--
-- Returns 1.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
