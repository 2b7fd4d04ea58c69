-- Fields of an event's entry. Prepended, after `size.lua`, to the scripts that append events.
--
-- The order of the fields is fixed: the previous release delivers every entry without `control` to
-- all its streams, and passes an entry with `control`. `entry.rs` reads both forms.

-- `event` has `type` and `data`, `topics` unless `default` is the only one, and `key` if it was
-- published under one.
local function fields_of(event)
  local fields = { 'type', event.type, 'data', event.data }
  local topics = event.topics
  if topics and not string.find(' ' .. topics .. ' ', ' default ', 1, true) then
    fields = { 'control', 'event', unpack(fields) }
  end
  if topics then
    fields[#fields + 1], fields[#fields + 2] = 'topics', topics
  end
  if event.key then
    fields[#fields + 1], fields[#fields + 2] = 'key', event.key
  end
  return fields
end
