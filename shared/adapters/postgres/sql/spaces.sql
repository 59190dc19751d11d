-- Embedding spaces, and who made which one the active one.

-- name: list
select id, name, model, revision, dimension, fingerprint, state, storage, built_at, created_at from spaces order by id

-- name: get
select id, name, model, revision, dimension, fingerprint, storage from spaces where id = %(id)s

-- name: alone
-- Whoever publishes commits first, and whoever comes later sees what we did.
select pg_advisory_xact_lock(7291002)

-- name: lacking
select space_lacks(%(id)s, %(most)s) as chunks

-- name: retire
update spaces set state = 'retired' where state = 'active' returning id, name

-- name: activate
update spaces set state = 'active' where id = %(id)s and built_at is not null returning id, name

-- name: record
insert into space_changes (kind, from_space, from_name, to_space, to_name, evidence, forced_because, changed_by)
values (%(kind)s, %(from_space)s, %(from_name)s, %(to_space)s, %(to_name)s, %(evidence)s, %(forced_because)s,
        %(changed_by)s)
returning id, kind, from_space, from_name, to_space, to_name, evidence, forced_because, changed_by, at

-- name: changes
select id, kind, from_space, from_name, to_space, to_name, evidence, forced_because, changed_by, at
from space_changes order by id desc limit %(limit)s

-- name: size
-- What one tenant has, or one of its collections; texts: how many of its chunks' texts differ; known: those with a vector in the space.
select (select count(*) from documents
        where tenant_id = %(tenant)s and published_generation is not null
          and (%(collection)s::text is null or collection_id = (select id from collections where tenant_id = %(tenant)s
                                                                and name = %(collection)s))) as documents,
       coalesce(sum(chunks), 0)::bigint as chunks, count(*) as texts, count(*) filter (where known) as known
from (
    select count(*) as chunks,
           exists (select from {vectors} v where v.tenant_id = %(tenant)s and v.text_hash = c.text_hash) as known
    from documents d join chunks c on c.document_id = d.id and c.generation = d.published_generation
    where d.tenant_id = %(tenant)s
      and (%(collection)s::text is null or d.collection_id = (select id from collections where tenant_id = %(tenant)s
                                                              and name = %(collection)s))
    group by c.text_hash
) as texts

-- name: tenants
select id from tenants order by id
