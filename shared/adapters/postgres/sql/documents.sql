-- The life of a document. Every write names the attempt (the fencing token) it belongs to: a worker whose
-- lease was taken over matches no row.

-- name: tenant_exists
select 1 as found from tenants where id = %(tenant)s

-- name: collection
-- The collection of that name, made when it is new.
with made as (
    insert into collections (tenant_id, name) values (%(tenant)s, %(name)s)
    on conflict (tenant_id, name) do nothing
    returning id, language::text
)
select id, language from made
union all
select id, language::text from collections where tenant_id = %(tenant)s and name = %(name)s
limit 1

-- name: observe
-- One event (or upload) seen: the row exists before any work starts. The newest sequencer wins; the shorter
-- one is padded on the right, and they compare as strings.
insert into documents as d (tenant_id, collection_id, bucket, key, seen_sequencer, timeline)
values (%(tenant)s, %(collection)s, %(bucket)s, %(key)s, rpad(%(sequencer)s, 64, '0'),
        jsonb_build_array(jsonb_build_object('status', 'pending', 'at', now())))
on conflict (bucket, key) do update
set seen_sequencer = greatest(d.seen_sequencer, excluded.seen_sequencer)
returning id, seen_sequencer, done_sequencer, rpad(%(sequencer)s, 64, '0') <= done_sequencer as handled

-- name: announce
-- An upload is about to be put in the bucket: pending until its event was worked on.
insert into documents as d (tenant_id, collection_id, bucket, key, timeline)
values (%(tenant)s, %(collection)s, %(bucket)s, %(key)s,
        jsonb_build_array(jsonb_build_object('status', 'pending', 'at', now())))
on conflict (bucket, key) do update
set status = 'pending', updated_at = now(), timeline = timeline_with(d.timeline, 'pending', null)
returning id

-- name: withdraw
update documents
set status = case when published_generation is not null then 'searchable'
                  when reason is not null then 'failed' else 'deleted' end,
    updated_at = now(), timeline = timeline_with(timeline, 'pending', 'the upload failed')
where id = %(id)s and status = 'pending'

-- name: claim
-- The lease, when nobody holds it. attempt is the fencing token of everything that follows.
update documents
set attempt = attempt + 1,
    lease_until = now() + make_interval(secs => %(lease)s)
where id = %(id)s and (lease_until is null or lease_until < now())
returning id, tenant_id, collection_id, bucket, key, status, etag, version_id, content_hash, pipeline, metadata,
          generation, published_generation, attempt

-- name: begin_generation
update documents
set generation = generation + 1, status = 'processing', updated_at = now(),
    timeline = timeline_with(timeline, 'processing', null)
where id = %(id)s and attempt = %(attempt)s
returning generation

-- name: extend
update documents set lease_until = now() + make_interval(secs => %(lease)s)
where id = %(id)s and attempt = %(attempt)s
returning 1 as held

-- name: release
update documents set lease_until = null where id = %(id)s and attempt = %(attempt)s

-- name: touch
-- The bytes are what is published already; only the envelope changed.
update documents
set etag = %(etag)s, version_id = %(version_id)s, metadata = %(metadata)s, bytes = %(bytes)s,
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    lease_until = null, status = 'searchable', reason_code = null, reason = null, updated_at = now(),
    timeline = timeline_with(timeline, 'searchable', 'same content')
where id = %(id)s and attempt = %(attempt)s

-- name: settle
-- Nothing to do for this event: the very version it speaks of was worked on before.
update documents
set done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')), lease_until = null,
    status = case when published_generation is null then 'failed' else 'searchable' end,
    timeline = case when status in ('failed', 'searchable') then timeline
               else timeline_with(timeline, case when published_generation is null then 'failed' else 'searchable' end,
                                  'unchanged') end
where id = %(id)s and attempt = %(attempt)s

-- name: lock_document
select id, published_generation, chunks, collection_id from documents
where id = %(id)s and attempt = %(attempt)s
for update

-- name: lock_any
select id, published_generation, chunks, collection_id from documents where id = %(id)s for update

-- name: store_chunks
-- One statement stores a slice of a generation with its lexemes and their weights.
insert into chunks (tenant_id, collection_id, document_id, generation, ordinal, text, page, headings,
                    start_char, end_char, text_hash, terms, weights)
select %(tenant)s, %(collection)s, %(id)s, %(generation)s, new.ordinal, new.text, new.page,
       array(select jsonb_array_elements_text(new.headings)), new.start_char, new.end_char, new.text_hash,
       term_vector(%(collection)s, words.words), weight_vector(words.words)
from unnest(%(ordinals)s::int[], %(texts)s::text[], %(pages)s::int[], %(headings)s::jsonb[],
            %(starts)s::int[], %(ends)s::int[], %(hashes)s::bytea[], %(embedded)s::text[])
     as new (ordinal, text, page, headings, start_char, end_char, text_hash, embedded),
     lateral (select to_tsvector(%(language)s::regconfig, new.embedded) as words offset 0) as words

-- name: count_lexemes
-- Sorted, so that two documents stored at once never wait for each other in a circle.
insert into lexemes as l (collection_id, lexeme, tenant_id, chunks)
select %(collection)s, lexeme, %(tenant)s, count(*)
from (
    select substr(unnest(tsvector_to_array(terms)), length(%(collection)s::text) + 2) as lexeme
    from chunks where document_id = %(id)s and generation = %(generation)s
) as found
group by lexeme
order by lexeme collate "C"
on conflict (collection_id, lexeme) do update set chunks = l.chunks + excluded.chunks

-- name: remove_chunks
-- Physical removal of every generation but one, with the lexeme counts that go with it; sorted locks again.
with gone as (
    delete from chunks where document_id = %(id)s and generation <> coalesce(%(keep)s::int, -1)
    returning collection_id, terms
), counted as (
    select collection_id, substr(lexeme, length(collection_id::text) + 2) as lexeme, count(*) as chunks
    from gone, unnest(tsvector_to_array(terms)) as lexeme
    group by 1, 2
), locked as (
    select l.collection_id, l.lexeme, counted.chunks
    from lexemes l join counted using (collection_id, lexeme)
    order by l.collection_id, l.lexeme
    for update of l
), lowered as (
    update lexemes l set chunks = l.chunks - locked.chunks
    from locked where l.collection_id = locked.collection_id and l.lexeme = locked.lexeme
)
select count(*) as removed from gone

-- name: publish
update documents
set published_generation = %(generation)s, status = 'searchable', reason_code = null, reason = null,
    etag = %(etag)s, version_id = %(version_id)s, content_hash = %(content_hash)s, pipeline = %(pipeline)s,
    media_type = %(media_type)s, bytes = %(bytes)s, pages = %(pages)s, flags = %(flags)s, metadata = %(metadata)s,
    collection_id = %(collection)s, chunks = %(chunks)s,
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    lease_until = null, updated_at = now(),
    timeline = timeline_with(timeline, 'searchable', format('generation %%s, %%s chunks', %(generation)s::int, %(chunks)s::int))
where id = %(id)s and attempt = %(attempt)s and generation = %(generation)s

-- name: fail
update documents
set published_generation = null, status = 'failed', reason_code = %(code)s, reason = %(reason)s,
    etag = %(etag)s, version_id = %(version_id)s, content_hash = %(content_hash)s, pipeline = %(pipeline)s,
    bytes = %(bytes)s, metadata = %(metadata)s, chunks = 0, pages = null, media_type = %(media_type)s,
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    lease_until = null, updated_at = now(),
    timeline = timeline_with(timeline, 'failed', %(reason)s)
where id = %(id)s and attempt = %(attempt)s

-- name: tombstone
-- Invisible from here on; a worker that still holds the document is fenced off.
update documents
set published_generation = null, status = 'deleted', reason_code = null, reason = null, chunks = 0,
    content_hash = null, etag = null, version_id = null, metadata = '{}',
    done_sequencer = greatest(done_sequencer, rpad(%(sequencer)s, 64, '0')),
    attempt = attempt + 1, lease_until = null, updated_at = now(),
    timeline = case when status = 'deleted' then timeline else timeline_with(timeline, 'deleted', null) end
where id = %(id)s

-- name: bump_epoch
-- Taken last and held shortest: publishers of one tenant queue here.
update tenants set epoch = epoch + 1 where id = %(tenant)s returning epoch

-- name: count_collection
update collections set documents = documents + %(documents)s, chunks = chunks + %(chunks)s where id = %(collection)s

-- name: active_space
select id, name, model, revision, dimension, fingerprint from spaces where state = 'active'

-- name: reuse_vectors
-- A text this tenant has embedded before keeps its vector.
insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
select c.id, c.tenant_id, c.collection_id, c.document_id, c.generation, c.text_hash, known.embedding
from chunks c
cross join lateral (
    select v.embedding from {vectors} v
    where v.tenant_id = %(tenant)s and v.text_hash = c.text_hash
    limit 1
) as known
where c.document_id = %(id)s and c.generation = %(generation)s
on conflict (chunk_id) do nothing

-- name: missing_vectors
select c.id, c.ordinal from chunks c
where c.document_id = %(id)s and c.generation = %(generation)s
  and not exists (select from {vectors} v where v.chunk_id = c.id)
order by c.ordinal

-- name: store_vectors
insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
select c.id, c.tenant_id, c.collection_id, c.document_id, c.generation, c.text_hash, new.embedding
from unnest(%(chunk_ids)s::bigint[], %(embeddings)s::halfvec[]) as new (chunk_id, embedding)
join chunks c on c.id = new.chunk_id
on conflict (chunk_id) do nothing

-- name: count_generation
select count(*) as chunks, count(v.chunk_id) as vectors
from chunks c left join {vectors} v on v.chunk_id = c.id
where c.document_id = %(id)s and c.generation = %(generation)s
