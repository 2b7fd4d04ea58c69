-- Announces entries, unless there are entries that the caller has not read. After a loss of data
-- several instances want to announce the same. Because of this check each entry is announced by one
-- of them.
--
-- KEYS: the stream.
--
-- ARGV:
--
-- - `read_to`: position of the last entry that the caller has read
-- - `most`: bound of entries
-- - `entries`: of each, its fields as names and values in turn
--
-- Answer: position of each entry, or nil if there is one that the caller has not read.
local stream, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local positions = {}

local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last and last[1] ~= args.read_to then
  return false
end
for place, entry in ipairs(args.entries) do
  positions[place] = redis.call('XADD', stream, 'MAXLEN', '~', args.most, '*', unpack(entry))
end
return positions
