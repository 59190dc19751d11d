-- The tenants' epochs, and what caches could not be told of them (shared/adapters/cache/README.md).

-- name: bump_epoch
-- Taken last and held shortest: publishers of one tenant queue here.
update tenants set epoch = epoch + 1 where id = %(tenant)s returning epoch

-- name: leave_epoch
-- until: when no cache can be at an older epoch any more: whoever has read one by now may take as long as its ticket
-- holds to put it into Redis, and it is believed for a lease from then on.
insert into epoch_outbox as o (tenant_id, epoch, at) values (%(tenant)s, %(epoch)s, clock_timestamp())
on conflict (tenant_id) do update set epoch = greatest(o.epoch, excluded.epoch), at = excluded.at
returning at + make_interval(secs => %(seconds)s) as until

-- name: committed_epoch
-- untold: somebody could not tell Redis.
select epoch, exists (select from epoch_outbox o where o.tenant_id = t.id) as untold from tenants t where id = %(tenant)s

-- name: told
-- A higher one may have been left since: it stays.
delete from epoch_outbox where tenant_id = %(tenant)s and epoch <= %(epoch)s

-- name: settled_epoch
-- No row while somebody is publishing: they may have told Redis the next epoch already, which it may have lost again.
select epoch from tenants where id = %(tenant)s for share skip locked
