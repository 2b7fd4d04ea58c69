-- Announces revocations, unless there are announcements that the caller has not read. After a loss
-- of data several instances want to announce the same revocations. Because of this check each
-- revocation is announced by one of them.
--
-- KEYS: the stream of revocations.
--
-- ARGV: position of the last announcement that the caller has read; bound of announcements; then id
-- and end of each revocation.
--
-- Answer: position of the last announcement, or nil if there is one that the caller has not read.
local stream, read_to, most = KEYS[1], ARGV[1], ARGV[2]
local FIRST = 3

local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last and last[1] ~= read_to then
  return false
end
for at = FIRST, #ARGV, 2 do
  read_to = redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'id', ARGV[at], 'until', ARGV[at + 1])
end
return read_to
