-- Trims the older half of the log if Redis is full.
--
-- All instances notice a full Redis at about the same time, and only the first may trim. The script
-- therefore tests first: XADD with the id 0-1 is always refused, with OOM while Redis is full and
-- with another error otherwise.
--
-- KEYS: the log.
--
-- ARGV: `kept`, the number of entries that are never trimmed.
--
-- Answer: number of trimmed entries.
local log, kept = KEYS[1], cmsgpack.unpack(ARGV[1]).kept
local refusal = redis.pcall('XADD', log, 'NOMKSTREAM', '0-1', 'control', 'mark')
local is_full = type(refusal) == 'table' and refusal.err and string.find(refusal.err, 'OOM', 1, true)
local length = redis.call('XLEN', log)
if not is_full or length <= kept then
  return 0
end
return redis.call('XTRIM', log, 'MAXLEN', math.max(kept, math.floor(length / 2)))
