-- Appends an event to the log, once for each idempotency key.
--
-- KEYS: the log, its state, the name of the idempotency key (without one, the state again).
--
-- ARGV:
--
-- 1. bound of the log in bytes
-- 2. log generation that the instance has entered
-- 3. bound of the log in entries
-- 4. event type
-- 5. data
-- 6. idempotency key, or ''
-- 7. fingerprint of type and data, with a key
-- 8. lifetime of the key in seconds, with a key
--
-- Answer: log epoch and id; for a known key those of the earlier event, and its fingerprint. Empty
-- if the log generation has changed.
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
