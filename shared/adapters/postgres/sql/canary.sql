-- The canary: what the index finds, held against what is there.

-- name: collections
-- Those that are searched by the index, of the active space.
select c.id as collection, c.tenant_id as tenant,
       jsonb_build_object('id', s.id, 'name', s.name, 'model', s.model, 'revision', s.revision, 'dimension', s.dimension,
                          'fingerprint', s.fingerprint, 'storage', s.storage) as space
from collections c cross join spaces s
where s.state = 'active' and c.chunks > %(more_than)s and c.candidate_of is null
order by c.id

-- name: sample
-- Vectors of chunks that can be found: each lies in the middle of its own neighbours.
select v.embedding
from {vectors} v join documents d on d.id = v.document_id and d.published_generation = v.generation
where v.tenant_id = %(tenant)s and v.collection_id = %(collection)s and d.metadata @> %(within)s
order by random()
limit %(samples)s

-- name: filters
-- What some of the documents say of themselves, and people filter by: the rarest for which the index is still used, since
-- they are the hardest for it.
with described as materialized (
    select d.metadata, count(*) as chunks
    from {vectors} v join documents d on d.id = v.document_id and d.published_generation = v.generation
    where v.tenant_id = %(tenant)s and v.collection_id = %(collection)s
    group by d.id, d.metadata
)
select jsonb_build_object(name, value) as within
from described, jsonb_each(metadata) as said (name, value)
group by name, value
having sum(chunks) > %(more_than)s and sum(chunks) < (select sum(chunks) from described)
order by sum(chunks), name, value
limit %(most)s

-- name: nearest
-- As a question finds them, before its words are looked at: so many as are taken, ranked by the vectors themselves.
select id from (
    select v.chunk_id as id, v.embedding <=> %(vector)s as distance
    from {vectors} v join documents d on d.id = v.document_id and d.published_generation = v.generation
    where v.collection_id = %(collection)s and d.metadata @> %(within)s
    order by {nearness}
    limit %(taken)s
) as taken
order by distance
limit %(limit)s

-- name: tune
insert into search_tunings as t (collection_id, space_id, tenant_id, ef_search, exact, recall)
values (%(collection)s, %(space)s, %(tenant)s, %(ef_search)s, %(exact)s, %(recall)s)
on conflict (collection_id, space_id) do update
set ef_search = excluded.ef_search, exact = excluded.exact, recall = excluded.recall, found_at = now()

-- name: well
delete from search_tunings where collection_id = %(collection)s and space_id = %(space)s
