-- Tries the commands that leases and tickets need on one key, and leaves it as it was.
--
-- KEYS: the key, a hash or nothing.
--
-- ARGV:
--
-- - `seconds`: lifetime of the key
--
-- Answer: the commands that the user may not run on it.
local key, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local field, lacking = 'trial', {}
local calls = {
  { 'TIME' },
  { 'HSET', key, field, '' },
  { 'HGET', key, field },
  { 'HMGET', key, field },
  { 'HGETALL', key },
  { 'EXPIRE', key, args.seconds },
  { 'HDEL', key, field },
}
for _, call in ipairs(calls) do
  local answer = redis.pcall(unpack(call))
  local text = type(answer) == 'table' and answer.err or ''
  -- The second is the text of Redis 7.2 and newer.
  if string.find(text, "executing the script can't") or string.find(text, 'ACL failure in script') then
    lacking[#lacking + 1] = call[1]
  end
end
return lacking
