-- Answers the id of the first entry, without its content.
--
-- KEYS: the log, its state.
--
-- ARGV: `generation`, the log generation that the instance has entered.
--
-- Answer: the id of the first entry ('' for none); empty if the log generation has changed.
local args = cmsgpack.unpack(ARGV[1])
if redis.call('HGET', KEYS[2], 'founding') ~= args.generation then
  return {}
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return { first and first[1] or '' }
