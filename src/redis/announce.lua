-- Announces revocations, unless there are announcements that the caller has not read. After a loss
-- of data several instances want to announce the same revocations. Because of this check each
-- revocation is announced by one of them.
--
-- KEYS: the stream of revocations.
--
-- ARGV:
--
-- - `read_to`: position of the last announcement that the caller has read
-- - `entries`: bound of announcements
-- - `revocations`: id and end of each
--
-- Answer: position of the last announcement, or nil if there is one that the caller has not read.
local stream, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local read_to = args.read_to

local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last and last[1] ~= read_to then
  return false
end
for _, revocation in ipairs(args.revocations) do
  read_to = redis.call(
    'XADD', stream, 'MAXLEN', '~', args.entries, '*', 'id', revocation[1], 'until', revocation[2])
end
return read_to
