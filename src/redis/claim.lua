-- Claims the data for the deployment of an instance, or finds that it is another's.
--
-- KEYS: the claim, a hash: when an instance last named each fingerprint, and the schema of the
-- data. ARGV: schema of the instance; milliseconds after which a fingerprint that nobody names
-- counts no longer; seconds to keep the claim; 1 if the instance may take what nobody holds, or 0;
-- its fingerprints. Answers: 'held'; or 'other' and when a fingerprint was last named (0 for
-- never); or 'newer' and the schema.
local claim, schema, left_after, kept_for, may_take = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local FIRST = 5

local own = {}
for at = FIRST, #ARGV do
  own[ARGV[at]] = true
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- No field has the name '': HDEL needs one.
local known_schema, newest, is_held, is_ours, old = 0, 0, false, false, { '' }
local noted = redis.call('HGETALL', claim)
for at = 1, #noted, 2 do
  local name, value = noted[at], tonumber(noted[at + 1]) or 0
  if name == 'schema' then
    known_schema = value
  else
    newest = math.max(newest, value)
    -- An hour far ahead is one by a clock that was set back since.
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
-- HDEL comes first because a full Redis lets a script go on that has written, and refuses one that
-- begins with HSET. Who cannot claim cannot make room either.
redis.call('HDEL', claim, unpack(old))
local named = { 'schema', schema }
for at = FIRST, #ARGV do
  named[#named + 1] = ARGV[at]
  named[#named + 1] = string.format('%.0f', now)
end
redis.call('HSET', claim, unpack(named))
redis.call('EXPIRE', claim, kept_for)
return { 'held', 0 }
