-- Claims the data for the deployment of an instance, or finds that it belongs to another one. KEYS:
-- the claim, a hash: the time at which each fingerprint was last named, and the schema number.
--
-- ARGV:
--
-- 1. schema number of the instance
-- 2. ms without being named after which a fingerprint no longer counts
-- 3. lifetime of the claim in seconds
-- 4. 1 if the instance may take an unclaimed data set, otherwise 0
-- 5. and more: fingerprints of the instance's keys
--
-- Answer: 'held'; or 'other' and the time of the last fingerprint (0 for none); or 'newer' and the
-- schema number.
local claim, schema, left_after, kept_for, may_take = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local FIRST = 5

local own = {}
for at = FIRST, #ARGV do
  own[ARGV[at]] = true
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- No field has the name '': HDEL needs at least one name.
local known_schema, newest, is_held, is_ours, old = 0, 0, false, false, { '' }
local noted = redis.call('HGETALL', claim)
for at = 1, #noted, 2 do
  local name, value = noted[at], tonumber(noted[at + 1]) or 0
  if name == 'schema' then
    known_schema = value
  else
    newest = math.max(newest, value)
    -- A time far in the future comes from a clock that was set back since.
    if math.abs(now - value) < left_after then
      is_held, is_ours = true, is_ours or own[name]
    else
      old[#old + 1] = name
    end
  end
end
if (is_held and not is_ours) or (not is_held and not may_take) then
  return { 'other', newest }
end
if known_schema > schema then
  return { 'newer', known_schema }
end
-- HDEL comes first: a full Redis refuses a script that begins with HSET, and continues one that has
-- written already. An instance without the claim could not make room either.
redis.call('HDEL', claim, unpack(old))
local named = { 'schema', schema }
for at = FIRST, #ARGV do
  named[#named + 1] = ARGV[at]
  named[#named + 1] = string.format('%.0f', now)
end
redis.call('HSET', claim, unpack(named))
redis.call('EXPIRE', claim, kept_for)
return { 'held', 0 }
