-- A publisher is about to commit the epoch ARGV[1].
-- KEYS[1] the tenant's epoch  KEYS[2] the ticket
-- An epoch that is not there is not made, and its time to live is not touched: this may run late, long after whoever
-- sent it has given up. Only what was read from Postgres under a ticket (restore_epoch) may begin or extend a lease.
local held = redis.call('GET', KEYS[1])
if held and tonumber(held) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
end
redis.call('DEL', KEYS[2])
return 1
