-- Announces revocations, unless others were announced since the caller has read the stream.
--
-- KEYS: the stream of revocations. ARGV: position of the last announcement that the caller has
-- read; announcements to keep at most; then the id and the end of each revocation. Answers: the
-- position of the last announcement now. Nothing, where there is one that the caller has not read:
-- it may be of one of these revocations. Of several instances that announce the same after a loss
-- of data, each announcement is made by one.
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
