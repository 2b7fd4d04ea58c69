-- Takes the older half off the log if Redis is full.
--
-- KEYS: the log.
-- ARGV: entries that the log keeps in any case.
-- Answers: how many entries were taken off.
--
-- All instances notice a full Redis at about the same time, and only the first may shorten the log. Redis compares its memory
-- with its limit before the first write of a script. This one changes nothing, because no id comes before 0-1: it is refused
-- with OOM while Redis is full, and with another error otherwise.
local log, kept = KEYS[1], tonumber(ARGV[1])
local refusal = redis.pcall('XADD', log, 'NOMKSTREAM', '0-1', 'control', 'mark')
local is_full = type(refusal) == 'table' and refusal.err and string.find(refusal.err, 'OOM', 1, true)
local length = redis.call('XLEN', log)
if not is_full or length <= kept then
  return 0
end
return redis.call('XTRIM', log, 'MAXLEN', math.max(kept, math.floor(length / 2)))
