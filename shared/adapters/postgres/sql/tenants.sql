-- Tenants, as an operator administers them.

-- name: make
insert into tenants (id, name, rate, burst, streams, budget_usd)
values (%(id)s, %(name)s, %(tenant_rate)s, %(tenant_burst)s, %(streams)s, %(budget_usd)s)
on conflict (name) do nothing

-- name: default_collection
insert into collections (tenant_id, name) values (%(id)s, 'default')

-- name: list
-- One, or all of them; newest first; the cursor is the last row of the page before.
select t.id, t.name, t.created_at, t.closed_at, t.rate as tenant_rate, t.burst as tenant_burst, t.streams, t.budget_usd,
       coalesce(c.documents, 0) as documents, coalesce(c.chunks, 0) as chunks
from tenants t
left join lateral (select sum(documents)::bigint as documents, sum(chunks)::bigint as chunks
                   from collections where tenant_id = t.id and candidate_of is null) as c on true
where (%(id)s::uuid is null or t.id = %(id)s)
  and (%(after_at)s::timestamptz is null or (t.created_at, t.id) < (%(after_at)s, %(after_id)s::uuid))
order by t.created_at desc, t.id desc
limit %(limit)s

-- name: lock
select id, name, closed_at, rate as tenant_rate, burst as tenant_burst, streams, budget_usd
from tenants where id = %(id)s for no key update

-- name: limit
update tenants set rate = %(tenant_rate)s, burst = %(tenant_burst)s, streams = %(streams)s, budget_usd = %(budget_usd)s
where id = %(id)s

-- name: close
update tenants set closed_at = now() where id = %(id)s

-- name: revoke_keys
update api_keys set revoked_at = now() where tenant_id = %(id)s and revoked_at is null

-- name: drop_waiting
-- What waits for the embedding job need not be embedded any more.
delete from embed_waiting where tenant_id = %(id)s

-- name: ensure
insert into tenants (id, name) values (%(id)s, %(name)s) on conflict (id) do nothing

-- name: ensure_collection
insert into collections (tenant_id, name) values (%(id)s, 'default') on conflict do nothing
