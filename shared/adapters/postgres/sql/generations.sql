-- Generations of documents, several of one tenant at a time: stored unseen by any query, then made the visible ones.

-- name: lock_documents
-- Those that are still ours. The collections are held first: who exchanges one waits for us, or we for them, and never
-- both. Sorted, so that two who lock several never wait for each other in a circle.
select d.id, d.attempt, d.published_generation, d.chunks, d.collection_id
from documents d join unnest(%(ids)s::uuid[], %(attempts)s::bigint[]) as ours (id, attempt) using (id, attempt)
where (select hold_collections())
order by d.id
for update of d

-- name: lock_document
select id, attempt, published_generation, chunks, collection_id, staged from documents
where id = %(id)s and (select hold_collections())
for update

-- name: begin_generations
-- Of documents that are locked. Older generations need not be embedded any more; whatever job works on them finds its
-- slices gone.
with begun as (
    update documents
    set generation = generation + 1, status = 'processing', staged = null, updated_at = now(),
        timeline = case when status = 'processing' then timeline else timeline_with(timeline, 'processing', null) end
    where id = any(%(ids)s)
    returning id, generation
), moot as (
    delete from embed_waiting where document_id in (select id from begun)
)
select id, generation from begun

-- name: store_chunks
-- One statement stores a slice of what goes to one collection, with its lexemes and their weights. What is long is sent as
-- it is (b): as text, each element of an array would be looked through for what needs quoting.
with analysed as materialized (
    select new.*, to_tsvector(%(language)s::regconfig, new.embedded) as words
    from unnest(%(documents)b::uuid[], %(generations)s::int[], %(ordinals)s::int[], %(texts)b::text[], %(pages)s::int[],
                %(headings)s::jsonb[], %(starts)s::int[], %(ends)s::int[], %(hashes)b::bytea[], %(embedded)b::text[])
         as new (document_id, generation, ordinal, text, page, headings, start_char, end_char, text_hash, embedded)
), stored as (
    insert into chunks (tenant_id, collection_id, document_id, generation, ordinal, text, page, headings,
                        start_char, end_char, text_hash, weights)
    select %(tenant)s, %(collection)s, document_id, generation, ordinal, text, page,
           array(select jsonb_array_elements_text(headings)), start_char, end_char, text_hash, weight_vector(words)
    from analysed
    returning id, document_id, ordinal
)
insert into chunk_terms (chunk_id, tenant_id, terms)
select stored.id, %(tenant)s, term_vector(%(collection)s, analysed.words)
from stored join analysed using (document_id, ordinal)

-- name: reuse_vectors
-- A text this tenant has embedded before keeps its vector. What is left are the chunks that lack one.
with ours as materialized (
    select c.id, c.document_id, c.ordinal, c.tenant_id, c.collection_id, c.generation, c.text_hash
    from unnest(%(ids)s::uuid[], %(generations)s::int[]) as staged (id, generation)
    join chunks c on c.document_id = staged.id and c.generation = staged.generation
), reused as (
    insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
    select c.id, c.tenant_id, c.collection_id, c.document_id, c.generation, c.text_hash, known.embedding
    from ours c
    cross join lateral (
        select v.embedding from {vectors} v
        where v.tenant_id = %(tenant)s and v.text_hash = c.text_hash
        limit 1
    ) as known
    on conflict (chunk_id) do nothing
    returning chunk_id
)
select c.document_id, c.id, c.ordinal from ours c
where not exists (select from {vectors} v where v.chunk_id = c.id)
  and not exists (select from reused r where r.chunk_id = c.id)
order by c.id

-- name: count_lexemes
-- Sorted, so that two who store at once never wait for each other in a circle.
insert into lexemes as l (collection_id, lexeme, tenant_id, chunks)
select %(collection)s, lexeme, %(tenant)s, count(*)
from (
    select substr(unnest(tsvector_to_array(t.terms)), length(%(collection)s::text) + 2) as lexeme
    from unnest(%(ids)s::uuid[], %(generations)s::int[]) as staged (id, generation)
    join chunks c on c.document_id = staged.id and c.generation = staged.generation
    join chunk_terms t on t.chunk_id = c.id
) as found
group by lexeme
order by lexeme collate "C"
on conflict (collection_id, lexeme) do update set chunks = l.chunks + excluded.chunks

-- name: remove_chunks
-- Physical removal of generations before one (but for those that are seen, now or after an exchange), or of all that a
-- document had which is gone, with the lexeme counts that go with it; sorted locks again. A newer generation may be in
-- the making: it stays.
with gone as (
    delete from chunks c
    where document_id = %(id)s
      and case when %(below)s::int is not null then generation < %(below)s::int
                    and not exists (select from documents d where d.id = %(id)s and d.published_generation = c.generation)
                    and not exists (select from editions e where e.document_id = %(id)s and e.generation = c.generation)
               else exists (select from documents d where d.id = %(id)s and d.status in ('deleted', 'failed')) end
    returning id, collection_id
), counted as (
    select gone.collection_id, substr(lexeme, length(gone.collection_id::text) + 2) as lexeme, count(*) as chunks
    from gone join chunk_terms t on t.chunk_id = gone.id, unnest(tsvector_to_array(t.terms)) as lexeme
    group by 1, 2
), locked as (
    select l.collection_id, l.lexeme, counted.chunks
    from lexemes l join counted using (collection_id, lexeme)
    order by l.collection_id, l.lexeme
    for update of l
), forgotten as (
    delete from lexemes l using locked
    where l.collection_id = locked.collection_id and l.lexeme = locked.lexeme and l.chunks <= locked.chunks
), lowered as (
    update lexemes l set chunks = l.chunks - locked.chunks
    from locked
    where l.collection_id = locked.collection_id and l.lexeme = locked.lexeme and l.chunks > locked.chunks
)
select count(*) as removed from gone

-- name: store_vectors
insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
select c.id, c.tenant_id, c.collection_id, c.document_id, c.generation, c.text_hash, new.embedding
from unnest(%(chunk_ids)s::bigint[], %(embeddings)b::{column}[]) as new (chunk_id, embedding)
join chunks c on c.id = new.chunk_id
order by c.id
on conflict (chunk_id) do nothing

-- name: count_generations
select c.document_id, count(*) as chunks, count(v.chunk_id) as vectors, (select hold_spaces()) as held
from unnest(%(ids)s::uuid[], %(generations)s::int[]) as staged (id, generation)
join chunks c on c.document_id = staged.id and c.generation = staged.generation
left join {vectors} v on v.chunk_id = c.id
group by c.document_id

-- name: publish
-- count_generations holds the spaces: who makes another one the active one comes before us, and is seen, or waits. The
-- collections are held, too. An edition for another collection than the one it goes to now is of no use.
with ready as (
    select * from jsonb_to_recordset(%(ready)s) as r (
        id uuid, attempt bigint, generation int, collection bigint, chunks int, pages int, flags jsonb, etag text,
        version_id text, content_hash text, pipeline text, media_type text, bytes bigint, metadata jsonb, sequencer text)
), strayed as (
    delete from editions e using ready r
    where e.document_id = r.id
      and not exists (select from collections k where k.id = e.collection_id and k.candidate_of = r.collection)
)
update documents d
set published_generation = r.generation, status = 'searchable', reason_code = null, reason = null, staged = null,
    etag = r.etag, version_id = r.version_id, content_hash = decode(r.content_hash, 'hex'), pipeline = r.pipeline,
    media_type = r.media_type, bytes = r.bytes, pages = r.pages,
    flags = array(select jsonb_array_elements_text(r.flags)), metadata = r.metadata,
    collection_id = r.collection, chunks = r.chunks,
    done_sequencer = greatest(d.done_sequencer, rpad(r.sequencer, 64, '0')),
    lease_until = null, updated_at = now(),
    timeline = timeline_with(d.timeline, 'searchable', format('generation %%s, %%s chunks', r.generation, r.chunks))
from ready r
where d.id = r.id and d.attempt = r.attempt and d.generation = r.generation
  and exists (select from spaces s where s.id = %(space)s and s.state = 'active')
  and exists (select from collections k where k.id = r.collection and k.candidate_of is null)

-- name: count_collection
update collections set documents = documents + %(documents)s, chunks = chunks + %(chunks)s where id = %(collection)s
