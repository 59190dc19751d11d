-- Requests that were sent twice.

-- name: begin
-- Ours to answer when the key is new, or when whoever answered it died. Kept for a day.
with old as (
    delete from idempotent_requests
    where tenant_id = %(tenant)s and created_at < now() - interval '1 day' and key <> %(key)s
)
insert into idempotent_requests as r (tenant_id, key, fingerprint, lease_until)
values (%(tenant)s, %(key)s, %(fingerprint)s, now() + make_interval(secs => %(lease)s))
on conflict (tenant_id, key) do update
set fingerprint = excluded.fingerprint, lease_until = excluded.lease_until, status = null, body = null, created_at = now()
where r.created_at < now() - interval '1 day'
   or r.status is null and r.lease_until < now() and r.fingerprint = excluded.fingerprint
returning 1 as ours

-- name: known
select fingerprint, status, headers, body from idempotent_requests where tenant_id = %(tenant)s and key = %(key)s

-- name: finish
update idempotent_requests set status = %(status)s, headers = %(headers)s, body = %(body)s
where tenant_id = %(tenant)s and key = %(key)s

-- name: forget
delete from idempotent_requests where tenant_id = %(tenant)s and key = %(key)s and status is null
