-- Reads a page of the log: as many entries as fit into so many bytes, and one at least.
--
-- KEYS: the log, the note about it.
-- ARGV: the founding that the instance has joined; XRANGE or XREVRANGE; where to begin and where to end, as for that
--   command; most bytes; most entries.
-- Answers: the id of the first entry of the log ('' for none); the bytes of the page; 1 if entries may follow for which
--   there was no room, otherwise 0; the entries. Nothing, when the log is not the one that was joined.
--
-- Redis bounds an answer in entries only. All of this happens at one moment: what the first id says holds for the entries.
local log, note = KEYS[1], KEYS[2]
local founding, command, from, to = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local room, most = tonumber(ARGV[5]), tonumber(ARGV[6])
-- Most entries looked at together: 1 MiB of the largest.
local STEP = 16
-- What an entry adds to an answer beside its texts.
local OVERHEAD = 64

if redis.call('HGET', note, 'founding') ~= founding then
  return {}
end

local function size_of(entry)
  local size = OVERHEAD
  for _, text in ipairs(entry[2]) do
    size = size + #text
  end
  return size
end

local page, bytes, more, step = {}, 0, 0, 1
while more == 0 and #page < most do
  local found = redis.call(command, log, from, to, 'COUNT', step)
  for _, entry in ipairs(found) do
    local size = size_of(entry)
    if #page == most or (#page > 0 and bytes + size > room) then
      -- The page ends before the first entry that does not fit: a later one in its place would hide it.
      more = 1
      break
    end
    page[#page + 1] = entry
    bytes = bytes + size
  end
  if more == 0 and #found == step then
    from = '(' .. found[#found][1]
    if bytes >= room or #page == most then
      more = 1
    else
      -- As many as fit if they are of the size of those before.
      step = math.max(1, math.min(STEP, math.floor((room - bytes) * #page / bytes)))
    end
  else
    break
  end
end

local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
return { first and first[1] or '', bytes, more, page }
