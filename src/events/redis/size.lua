-- Size of the log in bytes. Prepended to the scripts that append to the log.
--
-- Redis counts a stream's entries, not its bytes, and an entry has 10 to 65,536 bytes. The log's
-- state therefore counts them: `reach` is the size of all entries ever appended. `marks` is a list
-- of checkpoints, about one for each 64th of the bound. A checkpoint is the id of an entry and the
-- `reach` before that entry. From that entry on, the log has as many bytes as `reach` is larger
-- now, whatever was trimmed before it.
--
-- Example: a bound of 6,400 bytes, so a checkpoint after each 100, and entries of 40 bytes.
-- Checkpoints are the entries 1 (0 bytes before it), 3 (80), 5 (160) and so on. With entry 161
-- `reach` becomes 6,440. From entry 5 on the log has 6,440 - 160 = 6,280 bytes, which leaves room
-- for 100 more. So the entries before 5 are trimmed.
--
-- KEYS: the log, its state.
--
-- ARGV: `log_bytes`, the bound of the log, among the arguments of the script.
local log, state, args = KEYS[1], KEYS[2], cmsgpack.unpack(ARGV[1])
local bound = args.log_bytes
-- Bytes that Redis needs for an entry, without its fields.
local OVERHEAD = 64

local function size_of(fields)
  local size = OVERHEAD
  for _, text in ipairs(fields) do
    size = size + #text
  end
  return size
end

-- A number as digits. Lua itself writes an exponent from 10^14 on.
local function written(number)
  return string.format('%.0f', number)
end

-- Counts an entry, and keeps the log below the bound. `size` has `reach`, and `marked`, which was
-- the `reach` before the last checkpoint.
local function count(size, id, bytes)
  local before, step = size.reach, bound / 64
  size.reach = before + bytes
  if size.marked and size.reach - size.marked < step then
    redis.call('HSET', state, 'reach', written(size.reach))
    return
  end
  size.marked = before
  local marks = (redis.call('HGET', state, 'marks') or '') .. id .. ' ' .. written(before) .. ';'
  local start, from
  for place, mark, reached in string.gmatch(marks, '()(%S+) (%d+);') do
    start, from = place, mark
    -- Until the next checkpoint the log may grow by a step.
    if size.reach - reached <= bound - step then
      break
    end
  end
  redis.call(
    'HSET', state, 'reach', written(size.reach), 'marked', written(before), 'marks', string.sub(marks, start))
  if start > 1 then
    -- A user of Redis without this right costs the bound, and not the event.
    redis.pcall('XTRIM', log, 'MINID', '~', from, 'LIMIT', 0)
  end
end

