-- Why a document is not searchable, and how the installation is. Under the caller's tenant and labels, but for what is
-- nobody's: sweeps, and dead letters that were given up on.

-- name: document
select d.id, d.key, d.status, d.reason_code, d.reason, d.generation, d.published_generation, d.chunks, d.etag, d.bytes,
       d.acl, d.seen_sequencer, d.done_sequencer, d.attempt, d.lease_until, coalesce(d.lease_until > now(), false) as leased,
       d.updated_at, w.document_id is not null as waiting, w.created_at as waiting_since,
       case when w.document_id is null then d.etag else d.staged -> 'version' ->> 'etag' end as current_etag,
       case when w.document_id is null then d.version_id else d.staged -> 'version' ->> 'version_id' end as current_version,
       f.kind as finding, f.seen_at, f.hints, f.hinted_at, f.held_by
from documents d
left join embed_waiting w on w.document_id = d.id and w.generation = d.generation and d.staged is not null
left join sweep_findings f on f.bucket = d.bucket and f.key = d.key
where d.id = %(id)s::uuid or (d.bucket = %(bucket)s and d.key = %(key)s::text)

-- name: embedding
-- Where a document stands among the work of its tenant. The job takes slices nobody has tried first, oldest first.
with work as (
    select document_id, chunks, attempts, last_error, lease_until > now() as leased,
           row_number() over (order by attempts > 0, id) as place
    from embed_work where tenant_id = %(tenant)s
), mine as (
    select sum(chunks)::bigint as chunks, min(place) as first, max(attempts) as attempts, max(last_error) as last_error,
           coalesce(bool_or(leased), false) as in_hand
    from work where document_id = %(id)s
)
select coalesce(mine.chunks, 0) as chunks, coalesce(mine.attempts, 0) as attempts, mine.last_error, mine.in_hand,
       (select coalesce(sum(chunks), 0)::bigint from work where place < mine.first) as chunks_ahead,
       (select count(distinct document_id) from work where place < mine.first and document_id <> %(id)s) as documents_ahead
from mine

-- name: throughput
-- Chunks per second of the embedding job, from the waits of this tenant's newest documents that ended within the hour.
select sum(chunks) / nullif(extract(epoch from max(ended) - min(began)), 0)::float8 as chunks_per_second
from (
    select d.chunks,
           (select max((e ->> 'at')::timestamptz) from jsonb_array_elements(d.timeline) e
            where e ->> 'status' = 'processing' and e ->> 'detail' like 'waiting for the embedding job%%') as began,
           (select max((e ->> 'at')::timestamptz) from jsonb_array_elements(d.timeline) e
            where e ->> 'status' = 'searchable') as ended
    from (select chunks, timeline from documents where tenant_id = %(tenant)s
          order by created_at desc, id desc limit 200) as d
) as waits
where began < ended and ended > now() - interval '1 hour'

-- name: rework
-- The next look at the object does all of the work again, whatever version it finds.
update documents set pipeline = null where id = %(id)s

-- name: letters_of
-- What became of the events in dead letters.
select d.key, d.status, d.reason, d.done_sequencer from documents d where d.bucket = %(bucket)s and d.key = any(%(keys)s)

-- name: discard
insert into discarded_letters (message_id, body, sent_at, reason, discarded_by)
select given.*, %(reason)s, %(who)s from unnest(%(ids)s::text[], %(bodies)s::text[], %(sent)s::timestamptz[]) as given
on conflict (message_id) do nothing

-- name: discarded
select message_id, body, sent_at, reason, discarded_by, discarded_at from discarded_letters
order by discarded_at desc, message_id limit %(limit)s

-- name: sweeps
select id, cursor, listed, counts, error, confirmed_at, confirmed_by, started_at, updated_at, finished_at,
       lease_until > now() as working
from sweeps where bucket = %(bucket)s order by id desc limit %(limit)s

-- name: confirm
-- Only what a sweep has reported can be confirmed.
update sweeps set confirmed_at = coalesce(confirmed_at, now()), confirmed_by = coalesce(confirmed_by, %(who)s)
where id = %(id)s and bucket = %(bucket)s and (counts ->> 'held')::bigint > 0
returning id, counts, confirmed_at, confirmed_by

-- name: extension
select extversion as version from pg_extension where extname = 'vector'

-- name: unguarded
-- Tables with a tenant's rows whose owner, or anybody, would see the rows of others.
select c.relname as name from pg_class c
where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
  and not (c.relrowsecurity and c.relforcerowsecurity)
order by 1

-- name: roles
select rolname as name, rolsuper or rolbypassrls as sees_all from pg_roles where rolname = any(%(roles)s)

-- name: migrations
select name, hash from migrations

-- name: here
-- Where the server sees us come from, to tell a pooler between; and its clock.
select pg_backend_pid() as pid, host(inet_client_addr()) as address, inet_client_port() as port,
       extract(epoch from clock_timestamp())::float8 as at

-- name: tenant
select closed_at from tenants where id = %(tenant)s

-- name: index
-- Of the active space; own: how many collections have one of theirs.
select s.storage, coalesce(i.indisvalid, false) as valid,
       (select count(*) from pg_index o join pg_class c on c.oid = o.indexrelid
        where o.indrelid = to_regclass('vectors_' || s.id) and o.indisvalid and c.relname ~ '_hnsw_[0-9]+$') as own
from spaces s left join pg_index i on i.indexrelid = to_regclass('vectors_' || s.id || '_hnsw')
where s.state = 'active'

-- name: audit
select findings, finished_at < now() - interval '15 days' as late from audits order by id desc limit 1
