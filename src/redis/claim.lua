-- Claims the data for the deployment of an instance, or finds that it belongs to another one. KEYS:
-- the claim, a hash: the time at which each fingerprint was last named, and the schema number.
--
-- ARGV:
--
-- - `schema`: schema number of the instance
-- - `left_after`: ms without being named after which a fingerprint no longer counts
-- - `seconds`: lifetime of the claim
-- - `may_take`: whether the instance may take an unclaimed data set
-- - `fingerprints`: those of the instance's keys
--
-- Answer: 'held'; or 'other' and the time of the last fingerprint (0 for none); or 'newer' and the
-- schema number.
local claim, args = KEYS[1], cmsgpack.unpack(ARGV[1])

local own = {}
for _, fingerprint in ipairs(args.fingerprints) do
  own[fingerprint] = true
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- No field has the name '': HDEL needs at least one name.
local known_schema, newest, is_held, is_ours, old = 0, 0, false, false, { '' }
local found = redis.call('HGETALL', claim)
for at = 1, #found, 2 do
  local name, value = found[at], tonumber(found[at + 1]) or 0
  if name == 'schema' then
    known_schema = value
  else
    newest = math.max(newest, value)
    -- A time far in the future comes from a clock that was set back since.
    if math.abs(now - value) < args.left_after then
      is_held, is_ours = true, is_ours or own[name]
    else
      old[#old + 1] = name
    end
  end
end
if (is_held and not is_ours) or (not is_held and not args.may_take) then
  return { 'other', newest }
end
if known_schema > args.schema then
  return { 'newer', known_schema }
end
-- Calls a command with all `values`: Lua unpacks fewer than 8,000 at once. The number is even, so
-- that a name and its value stay together.
local MOST_VALUES = 1000
local function call(command, values)
  for from = 1, #values, MOST_VALUES do
    redis.call(command, claim, unpack(values, from, math.min(#values, from + MOST_VALUES - 1)))
  end
end

-- HDEL comes first: a full Redis refuses a script that begins with HSET, and continues one that has
-- written already. An instance without the claim could not make room either.
call('HDEL', old)
local named = { 'schema', args.schema }
for _, fingerprint in ipairs(args.fingerprints) do
  named[#named + 1] = fingerprint
  named[#named + 1] = string.format('%.0f', now)
end
call('HSET', named)
redis.call('EXPIRE', claim, args.seconds)
return { 'held', 0 }
