-- Tells where the log begins, without what stands there.
--
-- KEYS: the log, the note about it.
-- ARGV: the founding that the instance has joined.
-- Answers: the id of the first entry ('' for none). Nothing, when the log is not the one that was joined.
if redis.call('HGET', KEYS[2], 'founding') ~= ARGV[1] then
  return {}
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return { first and first[1] or '' }
