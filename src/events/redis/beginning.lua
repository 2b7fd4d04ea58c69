-- Answers the id of the first entry, without its content.
--
-- KEYS: the log, its state.
--
-- ARGV: the log generation that the instance has entered.
--
-- Answer: the id of the first entry ('' for none); empty if the log generation has changed.
if redis.call('HGET', KEYS[2], 'founding') ~= ARGV[1] then
  return {}
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return { first and first[1] or '' }
