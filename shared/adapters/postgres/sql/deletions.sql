-- What became of deleted documents, and how the last traces of them are removed.

-- name: receipt
select r.document_id, encode(r.key_hash, 'hex') as key_sha256, r.requested_at, r.epoch, r.coherent, r.coherent_until,
       r.removed, r.erased_at
from deletions r join documents d on d.id = r.document_id
where r.document_id = %(id)s and d.status = 'deleted'

-- name: due
-- Of any tenant, oldest first.
select document_id, tenant_id from deletions
where erased_at is null and requested_at < now() - make_interval(secs => %(after)s)
order by requested_at
limit %(limit)s

-- name: revived
-- A document that is there again has no receipt.
delete from deletions where document_id = any(%(ids)s)
  and exists (select from documents d where d.id = document_id and d.status <> 'deleted')

-- name: lock_gone
-- Left for later is what somebody works on, or has an event on its way, unless that takes longer than events live.
select d.id, d.bucket, d.key, exists (select from chunks c where c.document_id = d.id) as chunks
from documents d join deletions r on r.document_id = d.id
where d.id = any(%(ids)s) and d.status = 'deleted' and (d.lease_until is null or d.lease_until < now())
  and (d.seen_sequencer <= d.done_sequencer or r.requested_at < now() - interval '1 day')
order by d.id
for update of d

-- name: erase_answers
-- Answers that name them as a source: how many, by document.
with gone as (
    select distinct answer_id, document_id from answer_sources where document_id = any(%(ids)s)
), removed as (
    delete from answers where id in (select answer_id from gone)
)
select document_id, count(*) as removed from gone group by document_id

-- name: erase_similar
-- Those of epochs that are over are found by nobody.
with gone as (
    delete from semantic_answers
    where tenant_id = %(tenant)s and epoch < (select epoch from tenants where id = %(tenant)s)
    returning 1
)
select count(*) as removed from gone

-- name: erase_replays
-- What was answered to a request that may be sent again. It still takes effect once; what it said is gone.
with gone as (
    update idempotent_requests
    set status = 410, body = %(body)s, headers = '[["content-type", "application/problem+json"]]'
    where tenant_id = %(tenant)s
      and exists (select from unnest(%(ids)s::uuid[]) as id where position(convert_to(id::text, 'UTF8') in body) > 0)
    returning 1
)
select count(*) as removed from gone

-- name: erase_findings
delete from sweep_findings
where tenant_id = %(tenant)s and (document_id = any(%(ids)s) or (bucket, key) in
    (select * from unnest(%(buckets)s::text[], %(keys)s::text[])))

-- name: erase_messages
delete from webhook_messages where document_id = any(%(ids)s)

-- name: erase_letters
-- Letters that somebody gave up on and that speak of these keys, in either spelling.
update discarded_letters set body = '{}'
where exists (select from unnest(%(spellings)s::text[]) as key where position('"' || key || '"' in body) > 0)

-- name: erase_names
-- The tombstone keeps its id, its tenant and who may see it. No object can have such a key, and no document has it.
update documents
set key = 'tenants//' || id, media_type = null, bytes = null, pages = null, pipeline = null, etag = null,
    version_id = null, content_hash = null, object_modified = null, flags = '{}', metadata = '{}', reason_code = null,
    reason = null, seen_sequencer = '', done_sequencer = '',
    timeline = coalesce((select jsonb_agg(entry - 'detail') from jsonb_array_elements(timeline) as entry), '[]')
where id = any(%(ids)s)

-- name: epoch
select epoch from tenants where id = %(tenant)s

-- name: erased
update deletions set erased_at = now() where document_id = any(%(ids)s)
