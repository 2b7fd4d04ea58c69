-- Appends an event to the log, once for each idempotency key.
--
-- KEYS: the log, the note about it, the key of the idempotency key (or the note again, without one).
-- ARGV: most bytes of the log; the founding that the instance has joined; most entries of the log; type; data; idempotency
--   key ('' for none); fingerprint; seconds to keep the key.
-- Answers: the epoch and the id, and for a key that was known the fingerprint of what was published under it, with the
--   epoch of that time. Nothing, when the log is not the one that was joined.
local noted = redis.call('HMGET', note, 'founding', 'epoch', 'reach', 'marked')
if noted[1] ~= ARGV[2] or not noted[2] then
  return {}
end
local fields, key = { 'type', ARGV[4], 'data', ARGV[5] }, ARGV[6]
if key ~= '' then
  local known = redis.call('GET', KEYS[3])
  if known then
    local epoch, id, fingerprint = string.match(known, '^(%S+) (%S+) (%S+)$')
    return { epoch, id, fingerprint }
  end
  fields[5], fields[6] = 'key', key
end
local id = redis.call('XADD', log, 'MAXLEN', '~', ARGV[3], '*', unpack(fields))
if key ~= '' then
  redis.call('SET', KEYS[3], noted[2] .. ' ' .. id .. ' ' .. ARGV[7], 'EX', ARGV[8])
end
count({ reach = tonumber(noted[3]) or 0, marked = tonumber(noted[4]) }, id, size_of(fields))
return { noted[2], id }
