-- What a space that is not the active one lacks, tenant by tenant, document by document in the order they came.

-- name: tenants
select id from tenants order by id

-- name: lacks
select space_lacks(%(space)s, %(most)s) as chunks

-- name: documents
select id, created_at from documents
where tenant_id = %(tenant)s
  and (%(after_at)s::timestamptz is null or (created_at, id) > (%(after_at)s, %(after_id)s::uuid))
order by created_at, id
limit %(limit)s

-- name: sources
-- Spaces of the same model whose vectors are at least as exact as those of this one.
select o.id from spaces s join spaces o on o.fingerprint = s.fingerprint and o.id <> s.id
where s.id = %(space)s and (o.storage = 'float32' or s.storage <> 'float32')
order by o.state, o.id

-- name: copy
-- The cast to the column's type is Postgres's own. In order, so that two who fill it never wait for each other in a circle.
insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
select v.chunk_id, v.tenant_id, v.collection_id, v.document_id, v.generation, v.text_hash, v.embedding
from {source} v
where v.document_id = any(%(documents)s::uuid[]) and not exists (select from {vectors} mine where mine.chunk_id = v.chunk_id)
order by v.chunk_id
on conflict (chunk_id) do nothing

-- name: reuse
-- A text this tenant has a vector of in this space keeps it, whichever chunk had it.
insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
select c.id, c.tenant_id, c.collection_id, c.document_id, c.generation, c.text_hash, known.embedding
from chunks c
cross join lateral (
    select v.embedding from {vectors} v
    where v.tenant_id = %(tenant)s and v.text_hash = c.text_hash
    limit 1
) as known
where c.document_id = any(%(documents)s::uuid[]) and not exists (select from {vectors} v where v.chunk_id = c.id)
order by c.id
on conflict (chunk_id) do nothing

-- name: lacking
select c.id, c.headings, c.text, encode(c.text_hash, 'hex') as text_hash
from chunks c
where c.document_id = any(%(documents)s::uuid[]) and not exists (select from {vectors} v where v.chunk_id = c.id)
order by c.document_id, c.ordinal
limit %(limit)s
