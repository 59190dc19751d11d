-- How many of KEYS have a value that is tagged with an epoch below ARGV[1].
local stale = 0
for _, name in ipairs(KEYS) do
  local tag = string.match(redis.call('GETRANGE', name, 0, 20), '^(%d+):')
  if tag and tonumber(tag) < tonumber(ARGV[1]) then
    stale = stale + 1
  end
end
return stale
