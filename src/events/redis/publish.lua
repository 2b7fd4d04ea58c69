-- Appends an event to the log, once for each idempotency key.
--
-- KEYS: the log, the note about it, where the key stands (or the note again, without a key).
-- ARGV: the founding that the instance has joined; most entries of the log; type; data; key ('' for none); fingerprint;
--   seconds to keep the key.
-- Answers: the epoch and the id, and for a key that was known the fingerprint of what was published under it, with the
--   epoch of that time. Nothing, when the log is not the one that was joined.
local noted = redis.call('HMGET', KEYS[2], 'founding', 'epoch')
if noted[1] ~= ARGV[1] or not noted[2] then
  return {}
end
local key = ARGV[5]
if key == '' then
  return { noted[2], redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'type', ARGV[3], 'data', ARGV[4]) }
end
local known = redis.call('GET', KEYS[3])
if known then
  local epoch, id, fingerprint = string.match(known, '^(%S+) (%S+) (%S+)$')
  return { epoch, id, fingerprint }
end
local id =
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'type', ARGV[3], 'data', ARGV[4], 'key', key)
redis.call('SET', KEYS[3], noted[2] .. ' ' .. id .. ' ' .. ARGV[6], 'EX', ARGV[7])
return { noted[2], id }
