-- The life of a document. Every write names the attempt (the fencing token) it belongs to: a worker whose
-- lease was taken over matches no row.

-- name: tenant
select closed_at is null as open from tenants where id = %(tenant)s

-- name: collection
select id, name, language::text, chunk_tokens, overlap_tokens, documents, chunks, created_at
from collections where tenant_id = %(tenant)s and name = %(name)s

-- name: make_collection
insert into collections (tenant_id, name) values (%(tenant)s, %(name)s) on conflict (tenant_id, name) do nothing

-- name: observe
-- Events (or uploads) seen: the rows exist before any work starts. The newest sequencer wins; the shorter
-- one is padded on the right, and they compare as strings. An event without one (expiry has none) is never out of date.
-- No row: the tenant has no default collection yet. Sorted, so that two who see several never wait for each other in a
-- circle.
with seen as materialized (
    select key, sequencer from unnest(%(keys)s::text[], %(sequencers)s::text[]) as seen (key, sequencer)
), observed as (
    insert into documents as d (tenant_id, collection_id, bucket, key, seen_sequencer, timeline)
    select %(tenant)s, c.id, %(bucket)s, seen.key, rpad(seen.sequencer, 64, '0'),
           jsonb_build_array(jsonb_build_object('status', 'pending', 'at', now()))
    from seen, collections c
    where c.tenant_id = %(tenant)s and c.name = 'default'
    order by seen.key collate "C"
    on conflict (bucket, key) do update
    set seen_sequencer = greatest(d.seen_sequencer, excluded.seen_sequencer)
    returning id, key, done_sequencer
)
select o.id, o.key, seen.sequencer <> '' and rpad(seen.sequencer, 64, '0') <= o.done_sequencer as handled
from observed o join seen using (key)

-- name: announce
-- An upload is about to be put in the bucket: pending until its event was worked on. It is shown under its own labels
-- from now on, unless an older generation is visible under others. No row: a document that is not for the uploader's
-- eyes, sees, has that name.
insert into documents as d (tenant_id, collection_id, bucket, key, acl, upload_until, timeline)
values (%(tenant)s, %(collection)s, %(bucket)s, %(key)s, %(acl)s, now() + make_interval(secs => %(seconds)s),
        jsonb_build_array(jsonb_build_object('status', 'pending', 'at', now())))
on conflict (bucket, key) do update
set status = 'pending', updated_at = now(), timeline = timeline_with(d.timeline, 'pending', null),
    acl = case when d.published_generation is null then excluded.acl else d.acl end, upload_until = excluded.upload_until
where d.status = 'deleted' or %(sees)s::text[] is null or d.acl is null or d.acl && %(sees)s::text[]
returning id

-- name: withdraw
-- One that was never there leaves a tombstone, too, whose name is to be taken away; no cache knew of it.
with withdrawn as (
    update documents
    set status = case when published_generation is not null then 'searchable'
                      when reason is not null then 'failed' else 'deleted' end,
        updated_at = now(), timeline = timeline_with(timeline, 'pending', 'the upload failed')
    where id = %(id)s and status = 'pending'
    returning id, tenant_id, key, status
)
insert into deletions (document_id, tenant_id, key_hash, coherent)
select id, tenant_id, sha256(convert_to(key, 'UTF8')), true from withdrawn where status = 'deleted'
on conflict (document_id) do update
set key_hash = excluded.key_hash, requested_at = now(), coherent = true, removed = '{}', erased_at = null

-- name: claim
-- The leases that nobody holds, or only for an edition, which can wait. attempt is the fencing token of everything
-- that follows. What waited for it is `processing` from now on.
update documents d
set attempt = attempt + 1,
    lease_until = now() + make_interval(secs => %(lease)s),
    status = case when status = 'pending' then 'processing' else status end,
    updated_at = case when status = 'pending' then now() else updated_at end,
    timeline = case when status = 'pending' then timeline_with(timeline, 'processing', null) else timeline end
where id = any(%(ids)s)
  and (lease_until is null or lease_until < now()
       or exists (select from editions e where e.document_id = d.id and e.attempt = d.attempt))
returning id, tenant_id, collection_id, bucket, key, status, etag, version_id, content_hash, pipeline, metadata,
          generation, published_generation, attempt

-- name: hand_over
-- From here on the embedding job owns what is left to do. The event's effect is durable, so its work is done.
with waiting as (
    insert into embed_waiting (document_id, tenant_id, generation)
    values (%(id)s, %(tenant)s, %(generation)s)
)
update documents
set staged = %(staged)s, done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    lease_until = null, updated_at = now(),
    timeline = timeline_with(timeline, 'processing',
                             format('waiting for the embedding job: %%s chunks', %(missing)s::int))
where id = %(id)s and attempt = %(attempt)s and (select hold_spaces())

-- name: extend
update documents set lease_until = now() + make_interval(secs => %(lease)s)
where id = %(id)s and attempt = %(attempt)s
returning 1 as held

-- name: release
update documents set lease_until = null where id = %(id)s and attempt = %(attempt)s

-- name: touch
-- The bytes are what is published already; only the envelope changed. An edition of them may wait on.
with moot as (delete from embed_waiting w where document_id = %(id)s and not exists (
    select from editions e where e.document_id = w.document_id and e.generation = w.generation and e.status = 'waiting'))
update documents
set etag = %(etag)s, version_id = %(version_id)s, metadata = %(metadata)s, bytes = %(bytes)s,
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    lease_until = null, status = 'searchable', reason_code = null, reason = null, staged = null, updated_at = now(),
    timeline = timeline_with(timeline, 'searchable', 'same content')
where id = %(id)s and attempt = %(attempt)s

-- name: settle
-- Nothing to do for this event: the very version it speaks of was worked on before. Its edition may wait on.
with moot as (delete from embed_waiting w where document_id = %(id)s and not exists (
    select from editions e where e.document_id = w.document_id and e.generation = w.generation and e.status = 'waiting'))
update documents
set staged = null, done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')), lease_until = null,
    status = case when published_generation is null then 'failed' else 'searchable' end,
    timeline = case when status in ('failed', 'searchable') then timeline
               else timeline_with(timeline, case when published_generation is null then 'failed' else 'searchable' end,
                                  'unchanged') end
where id = %(id)s and attempt = %(attempt)s

-- name: fail
with moot as (delete from embed_waiting where document_id = %(id)s),
     undone as (delete from editions where document_id = %(id)s)
update documents
set published_generation = null, status = 'failed', staged = null, reason_code = %(code)s, reason = %(reason)s,
    etag = %(etag)s, version_id = %(version_id)s, content_hash = %(content_hash)s, pipeline = %(pipeline)s,
    bytes = %(bytes)s, metadata = %(metadata)s, chunks = 0, pages = null, media_type = %(media_type)s,
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    lease_until = null, updated_at = now(),
    timeline = timeline_with(timeline, 'failed', %(reason)s)
where id = %(id)s and attempt = %(attempt)s

-- name: describe
-- What failed is looked at anew by the event of this change. While another version is on its way to be worked on, only
-- who sees the document and what it is filtered by change.
update documents
set metadata = %(metadata)s, attempt = attempt + 1, lease_until = null, updated_at = now(),
    etag = case when etag = %(known)s and status <> 'failed' then %(etag)s else etag end,
    version_id = case when etag = %(known)s and status <> 'failed' then %(version_id)s else version_id end,
    staged = case when staged is null then null
             else jsonb_set(staged, '{version,metadata}', %(metadata)s::jsonb) end,
    timeline = timeline_with(timeline, status, 'other metadata')
where id = %(id)s and status <> 'deleted'

-- name: tombstone
-- Invisible from here on; a worker that still holds the document is fenced off, a job that embeds it too.
with moot as (delete from embed_waiting where document_id = %(id)s),
     undone as (delete from editions where document_id = %(id)s)
update documents
set published_generation = null, status = 'deleted', staged = null, reason_code = null, reason = null, chunks = 0,
    content_hash = null, etag = null, version_id = null, metadata = '{}',
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    attempt = attempt + 1, lease_until = null, updated_at = now(),
    timeline = case when status = 'deleted' then timeline else timeline_with(timeline, 'deleted', null) end
where id = %(id)s

-- name: open_receipt
-- Before the tombstone: a document that is deleted already keeps the receipt it has.
insert into deletions as r (document_id, tenant_id, key_hash)
select id, tenant_id, sha256(convert_to(key, 'UTF8')) from documents where id = %(id)s and status <> 'deleted'
on conflict (document_id) do update
set key_hash = excluded.key_hash, requested_at = now(), removed = '{}', erased_at = null

-- name: note_coherence
update deletions set epoch = %(epoch)s, coherent = %(coherent)s, coherent_until = %(until)s where document_id = %(id)s

-- name: active_space
select id, name, model, revision, dimension, fingerprint, storage from spaces where state = 'active'

-- name: other_spaces
select id, name, model, revision, dimension, fingerprint, storage from spaces where state <> 'active' order by id
