-- What ingest makes for candidates: the generation of a document that is cut as the candidate says.

-- name: wanted
-- Documents whose collection has a candidate, with how their edition was made if it is of the same content: as it is then,
-- or as it cannot be read.
select d.id as document, d.key, d.bytes, d.content_hash, live.name as live, k.id, k.language::text, k.chunk_tokens,
       k.overlap_tokens, k.documents, k.chunks, k.created_at, k.candidate_state = 'building' as building,
       e.pipeline as made_with
from documents d
join collections live on live.id = d.collection_id
join collections k on k.candidate_of = live.id and k.candidate_state <> 'going'
left join editions e on e.document_id = d.id and e.collection_id = k.id and e.content_hash = d.content_hash
    and (e.status in ('whole', 'failed')
         or exists (select from embed_waiting w where w.document_id = d.id and w.generation = e.generation))
where d.id = any(%(documents)s) and d.published_generation is not null and d.staged is null

-- name: begin
-- A lease on the document and a generation, while it is what was read, and nobody else has made it since. What the
-- document was is not touched. The edition that was there is none any more; its vectors are, until its chunks go.
with claimed as (
    update documents
    set attempt = attempt + 1, generation = generation + 1, lease_until = now() + make_interval(secs => %(lease)s)
    where id = %(id)s and (lease_until is null or lease_until < now()) and staged is null
      and published_generation is not null and content_hash = %(content_hash)s
      and collection_id = (select candidate_of from collections where id = %(collection)s)
      and (select hold_collections())
      and not exists (select from editions e
                      where e.document_id = %(id)s and e.collection_id = %(collection)s and e.status = 'whole'
                        and e.content_hash = %(content_hash)s and e.pipeline = %(pipeline)s)
    returning id, tenant_id, collection_id, bucket, key, status, etag, version_id, content_hash, pipeline, metadata,
              generation, published_generation, attempt
), moot as (
    delete from embed_waiting where document_id in (select id from claimed)
), begun as (
    insert into editions (document_id, tenant_id, collection_id, generation, attempt)
    select id, tenant_id, %(collection)s, generation, attempt from claimed
    on conflict (document_id) do update
    set collection_id = excluded.collection_id, generation = excluded.generation, attempt = excluded.attempt,
        status = 'making', reason = null, content_hash = null, pipeline = null, chunks = 0
)
select * from claimed

-- name: finish
-- Or it waits for the embedding job. No row: the document is another worker's now, the candidate is going, or another
-- space has become the active one.
with done as (
    update editions
    set status = %(status)s, reason = %(reason)s, content_hash = %(content_hash)s, pipeline = %(pipeline)s,
        media_type = %(media_type)s, pages = %(pages)s, flags = %(flags)s, chunks = %(chunks)s
    where document_id = %(id)s and generation = %(generation)s and attempt = %(attempt)s
      and exists (select from spaces s where s.id = %(space)s and s.state = 'active')
    returning document_id, collection_id
), noted as (
    update collections set pipeline = %(pipeline)s
    where id in (select collection_id from done) and candidate_state = 'building'
      and pipeline is distinct from %(pipeline)s
)
update documents set lease_until = null where id in (select document_id from done) and attempt = %(attempt)s
returning 1 as done

-- name: wait
insert into embed_waiting (document_id, tenant_id, generation)
select %(id)s, %(tenant)s, %(generation)s where (select hold_spaces())
