-- Who wants to be told of documents, and the outbox of what they have not been told yet.

-- name: count
select count(*) as webhooks from webhooks where tenant_id = %(tenant)s

-- name: make
insert into webhooks (id, tenant_id, url, events, secret)
values (%(id)s, %(tenant)s, %(url)s, %(events)s, %(secret)s)

-- name: list
select w.id, w.url, w.events, w.delivered_at, w.failed_at, w.error, w.created_at,
       (select count(*) from webhook_messages m where m.webhook_id = w.id and m.given_up_at is null) as waiting,
       (select count(*) from webhook_messages m where m.webhook_id = w.id and m.given_up_at is not null) as given_up
from webhooks w where w.tenant_id = %(tenant)s
order by w.created_at, w.id

-- name: remove
delete from webhooks where id = %(id)s and tenant_id = %(tenant)s returning id

-- name: tell
-- In the transaction that makes it true.
insert into webhook_messages (webhook_id, tenant_id, document_id, payload)
select w.id, d.tenant_id, d.id, jsonb_build_object('type', %(event)s::text, 'timestamp', now(), 'data', jsonb_build_object(
    'id', d.id, 'uri', 's3://' || d.bucket || '/' || d.key, 'status', d.status, 'generation', d.generation,
    'chunks', d.chunks, 'reason_code', d.reason_code, 'reason', d.reason))
from documents d join webhooks w on w.tenant_id = d.tenant_id and %(event)s = any(w.events)
where d.id = any(%(documents)s)

-- name: take
-- What is due, oldest first. fresh: only first attempts, and nothing for who did not answer lately.
with due as (
    select m.id from webhook_messages m
    where m.given_up_at is null and m.due_at <= now()
      and (not %(fresh)s or (m.attempts = 0 and not exists (
          select from webhook_messages o where o.webhook_id = m.webhook_id and o.attempts > 0)))
    order by m.due_at
    limit %(limit)s
    for update skip locked
)
update webhook_messages m
set attempts = m.attempts + 1,
    due_at = now() + make_interval(secs => (1 + random() / 4)
        * (%(backoff)s::int[])[least(m.attempts + 1, cardinality(%(backoff)s::int[]))])
from due, webhooks w
where m.id = due.id and w.id = m.webhook_id
returning m.id, m.webhook_id as webhook, w.url, w.secret, m.payload, m.attempts

-- name: following
select extract(epoch from min(due_at) - now())::float8 as seconds from webhook_messages where given_up_at is null

-- name: listened
select exists (select from webhooks) as listened

-- name: delivered
with gone as (delete from webhook_messages where id = any(%(ids)s) returning webhook_id)
update webhooks set delivered_at = now() where id in (select webhook_id from gone)

-- name: failed
with late as (
    update webhook_messages set given_up_at = case when attempts >= %(most)s then now() end
    where id = %(id)s
    returning webhook_id
)
update webhooks set failed_at = now(), error = %(error)s where id in (select webhook_id from late)
