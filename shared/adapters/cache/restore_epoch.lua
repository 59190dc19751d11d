-- A reader has read the epoch ARGV[2] from Postgres after it was given the ticket ARGV[1].
-- KEYS[1] the tenant's epoch  KEYS[2] the ticket  ARGV[3] the lease in seconds
-- Returns 1, or 0 when the ticket is not the one any more: somebody has published, or restored, since.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
local held = redis.call('GET', KEYS[1])
if not held or tonumber(held) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
redis.call('DEL', KEYS[2])
return 1
