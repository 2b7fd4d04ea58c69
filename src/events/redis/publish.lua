-- Appends an event to the log, once for each idempotency key.
--
-- `size.lua` and `fields.lua` are prepended. They define `log`, `state`, `args`, `bound`,
-- `written`, `size_of`, `count` and `fields_of`. `keys.rs` explains the fields of the state.
--
-- KEYS: the log, its state, the name of the idempotency key (without one, the state again).
--
-- ARGV:
--
-- - `log_bytes`, `log_entries`: bounds of the log
-- - `generation`: log generation that the instance has entered
-- - `type`, `data`: the event
-- - `topics`: its topics, unless `default` is the only one
-- - `key`: idempotency key, if there is one
-- - `fingerprint`: of type, data and topics
-- - `key_seconds`: lifetime of the key
--
-- Answer: log epoch and id; for a known key those of the earlier event, and its fingerprint. Empty
-- if the log generation has changed.
local found = redis.call('HMGET', state, 'founding', 'epoch', 'reach', 'marked')
local generation, epoch, reach, marked = found[1], found[2], tonumber(found[3]) or 0, tonumber(found[4])
if generation ~= args.generation or not epoch then
  return {}
end
if args.key then
  local known = redis.call('GET', KEYS[3])
  if known then
    local first_epoch, first_id, fingerprint = string.match(known, '^(%S+) (%S+) (%S+)$')
    return { first_epoch, first_id, fingerprint }
  end
end
local fields = fields_of(args)
local id = redis.call('XADD', log, 'MAXLEN', '~', args.log_entries, '*', unpack(fields))
if args.key then
  redis.call('SET', KEYS[3], epoch .. ' ' .. id .. ' ' .. args.fingerprint, 'EX', args.key_seconds)
end
count({ reach = reach, marked = marked }, id, size_of(fields))
return { epoch, id }
