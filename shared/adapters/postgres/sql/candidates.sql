-- Candidates of one tenant's collections: made, looked at, exchanged with their collections, removed.

-- name: make
-- No row: there is no such collection, or it has a candidate.
insert into collections (tenant_id, name, language, chunk_tokens, overlap_tokens, candidate_of, candidate_state)
select %(tenant)s, %(candidate_name)s, coalesce(%(language)s::regconfig, live.language),
       case when %(cut)s then %(chunk_tokens)s else live.chunk_tokens end,
       case when %(cut)s then %(overlap_tokens)s else live.overlap_tokens end, live.id, 'building'
from collections live where live.tenant_id = %(tenant)s and live.name = %(name)s
on conflict do nothing
returning id

-- name: list
-- lacking: documents without an edition of their content, of them unreadable ones; and on_the_way is what waits for the
-- embedding job, cut as the collection says. refused: some of the unreadable ones.
select k.id, live.name as collection, k.candidate_state as state, k.language::text, k.chunk_tokens, k.overlap_tokens,
       live.language::text as live_language, live.chunk_tokens as live_chunk_tokens,
       live.overlap_tokens as live_overlap_tokens, k.documents, k.chunks, live.id as live_id,
       live.chunks as live_chunks, k.created_at, counted.lacking, counted.unreadable, waits.on_the_way,
       array(select jsonb_build_object('document_id', e.document_id, 'reason', e.reason) from editions e
             where e.collection_id = k.id and e.status = 'failed' order by e.document_id limit 20) as refused
from collections k join collections live on live.id = k.candidate_of
cross join lateral (
    select count(*) as lacking, count(*) filter (
        where e.status = 'failed' and e.collection_id = k.id and e.content_hash = d.content_hash) as unreadable
    from documents d
    left join editions e on e.document_id = d.id
    where d.collection_id = live.id and d.published_generation is not null
      and not coalesce(e.collection_id = k.id and e.content_hash = d.content_hash and e.status = 'whole'
                       and (k.pipeline is null or e.pipeline = k.pipeline), false)
) as counted
cross join lateral (
    select count(*) as on_the_way from embed_waiting w join documents d on d.id = w.document_id
    where w.tenant_id = %(tenant)s and (d.staged ->> 'collection')::bigint = live.id
) as waits
where k.tenant_id = %(tenant)s and (%(name)s::text is null or live.name = %(name)s)
order by live.name

-- name: lacking
-- Documents to look at, in the order of their ids, but for those that cannot be read, or wait for the embedding job.
select d.id, d.key, d.done_sequencer
from collections k
join documents d on d.collection_id = k.candidate_of and d.published_generation is not null and d.staged is null
left join editions e on e.document_id = d.id
where k.tenant_id = %(tenant)s and k.id = %(id)s and (%(after)s::uuid is null or d.id > %(after)s::uuid)
  and not coalesce(e.collection_id = k.id and e.content_hash = d.content_hash
                   and (k.pipeline is null or e.pipeline = k.pipeline)
                   and (e.status in ('whole', 'failed')
                        or exists (select from embed_waiting w
                                   where w.document_id = d.id and w.generation = e.generation)), false)
order by d.id
limit %(limit)s

-- name: alone
-- Whoever publishes commits first, and whoever comes later sees what we did.
select pg_advisory_xact_lock(7291004, hashtext(current_tenant()::text))

-- name: exchange
-- Each document goes over to its edition, and the edition is what the document was. In the order of their ids, which is
-- how whoever locks several of them does it. + 0: each is found by its document, whatever is estimated; right after an
-- exchange the statistics say that a collection has next to nothing, and one list would be gone through for each of the
-- other.
with pairs as materialized (
    select d.id, d.collection_id as from_collection, d.published_generation as from_generation, d.pipeline as from_pipeline,
           d.media_type as from_media_type, d.pages as from_pages, d.flags as from_flags, d.chunks as from_chunks,
           e.collection_id, e.generation, e.pipeline, e.media_type, e.pages, e.flags, e.chunks
    from documents d join editions e on e.document_id = d.id
    where d.collection_id = %(live)s and d.published_generation is not null and e.collection_id + 0 = %(candidate)s
      and e.status = 'whole' and e.content_hash = d.content_hash
    order by d.id
    for update of d
), turned as (
    update editions e
    set collection_id = p.from_collection, generation = p.from_generation, pipeline = p.from_pipeline,
        media_type = p.from_media_type, pages = p.from_pages, flags = p.from_flags, chunks = p.from_chunks
    from pairs p where e.document_id = p.id
)
update documents d
set collection_id = p.collection_id, published_generation = p.generation, pipeline = p.pipeline,
    media_type = p.media_type, pages = p.pages, flags = p.flags, chunks = p.chunks
from pairs p where d.id = p.id

-- name: left
select exists (select from documents where collection_id = %(live)s and published_generation is not null) as some

-- name: step_aside
update collections set name = name || '~~' where id = %(candidate)s

-- name: retire
update collections set name = %(candidate_name)s, candidate_of = %(candidate)s, candidate_state = %(state)s, pipeline = null
where id = %(live)s

-- name: install
update collections set name = %(name)s, candidate_of = null, candidate_state = null, pipeline = null
where id = %(candidate)s

-- name: forget_labels
delete from label_sets where collection_id in (%(live)s, %(candidate)s)

-- name: count_labels
insert into label_sets (collection_id, acl, tenant_id, documents, chunks)
select collection_id, acl, tenant_id, count(*), sum(chunks) from documents
where collection_id = %(candidate)s and published_generation is not null and acl is not null
group by collection_id, acl, tenant_id

-- name: record
insert into collection_changes (tenant_id, collection, kind, from_collection, to_collection, from_settings, to_settings,
                                documents, evidence, forced_because, changed_by)
values (%(tenant)s, %(name)s, %(kind)s, %(live)s, %(candidate)s, %(from_settings)s, %(to_settings)s, %(documents)s,
        %(evidence)s, %(forced_because)s, %(changed_by)s)
returning id, collection, kind, from_collection, to_collection, from_settings, to_settings, documents, evidence,
          forced_because, changed_by, at

-- name: changes
select id, collection, kind, from_collection, to_collection, from_settings, to_settings, documents, evidence,
       forced_because, changed_by, at
from collection_changes where tenant_id = %(tenant)s order by id desc limit %(limit)s

-- name: give_up
-- From here on it gets nothing more, and cannot take its collection's place.
update collections set candidate_state = 'going' where id = %(candidate)s

-- name: remove_some
with few as materialized (
    select document_id, generation from editions where collection_id = %(candidate)s limit %(limit)s
), removed as (
    delete from chunks c using few
    where c.document_id = few.document_id and c.generation = few.generation and c.collection_id = %(candidate)s
), moot as (
    delete from embed_waiting w using few
    where w.document_id = few.document_id and w.generation = few.generation
), done as (
    delete from editions e using few where e.document_id = few.document_id and e.collection_id = %(candidate)s
)
select count(*) as documents from few

-- name: lock
-- Nobody puts a document there meanwhile: it would go with it.
select id from collections where id = %(candidate)s for update

-- name: move_rest
-- Documents that are not searchable and stayed when it was exchanged.
update documents set collection_id = %(live)s
where id in (select id from documents
             where tenant_id = %(tenant)s and collection_id = %(candidate)s and published_generation is null
             limit %(limit)s)

-- name: forget_lexemes
delete from lexemes where collection_id = %(candidate)s

-- name: remove
delete from collections where id = %(candidate)s and candidate_state = 'going'
returning id
