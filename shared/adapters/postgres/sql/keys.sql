-- API keys, as an operator administers them.

-- name: active
-- How many keys of that name a tenant has which work, but for one.
select count(*) as keys from api_keys
where tenant_id = %(tenant)s and name = %(name)s and id <> %(id)s
  and revoked_at is null and (expires_at is null or expires_at > now())

-- name: make
insert into api_keys (id, tenant_id, name, digest, scopes, acl, expires_at, rate, burst)
values (%(id)s, %(tenant)s, %(name)s, %(digest)s, %(scopes)s, %(acl)s, %(expires_at)s, %(key_rate)s, %(key_burst)s)

-- name: list
-- One key, those of one tenant, or all of them; newest first; the cursor is the last row of the page before.
select id, tenant_id, name, scopes, acl, rate as key_rate, burst as key_burst,
       created_at, expires_at, revoked_at, last_used_at
from api_keys
where (%(id)s::text is null or id = %(id)s) and (%(tenant)s::uuid is null or tenant_id = %(tenant)s)
  and (%(after_at)s::timestamptz is null or (created_at, id) < (%(after_at)s, %(after_id)s::text))
order by created_at desc, id desc
limit %(limit)s

-- name: change
update api_keys
set name = %(name)s, expires_at = %(expires_at)s, acl = %(acl)s, rate = %(key_rate)s, burst = %(key_burst)s
where id = %(id)s and revoked_at is null

-- name: revoke
update api_keys set revoked_at = now() where id = %(id)s and revoked_at is null

-- name: ensure
insert into api_keys (id, tenant_id, name, digest, scopes) values (%(id)s, %(tenant)s, %(name)s, %(digest)s, %(scopes)s)
on conflict (id) do nothing
