-- Collections of one tenant.

-- name: languages
select cfgname::text as language from pg_ts_config where cfgnamespace = 'pg_catalog'::regnamespace order by 1

-- name: count
select count(*) as collections from collections where tenant_id = %(tenant)s and candidate_of is null

-- name: make
insert into collections (tenant_id, name, language, chunk_tokens, overlap_tokens)
values (%(tenant)s, %(name)s, %(language)s::regconfig, %(chunk_tokens)s, %(overlap_tokens)s)
on conflict (tenant_id, name) do nothing

-- name: lock
-- Nobody publishes into it meanwhile. empty: nothing of it is visible, or on its way in or out.
select c.id, c.name, c.language::text, c.chunk_tokens, c.overlap_tokens,
       c.documents = 0 and not exists (select from lexemes l where l.collection_id = c.id and l.chunks > 0) as empty
from collections c where c.tenant_id = %(tenant)s and c.name = %(name)s and (select hold_collections())
for update

-- name: change
update collections
set language = %(language)s::regconfig, chunk_tokens = %(chunk_tokens)s, overlap_tokens = %(overlap_tokens)s
where id = %(id)s

-- name: contents
-- What is visible in it, what waits for the embedding job to become so, and what failed on its way there. Whatever else
-- is being worked on shows up here when it has arrived.
with asked as materialized (select id, name from collections where tenant_id = %(tenant)s and name = %(name)s)
select d.id, d.key, count(*) over () as documents
from documents d, asked
where d.tenant_id = %(tenant)s
  and ((d.published_generation is not null and d.collection_id = asked.id)
       or (d.staged ->> 'collection')::bigint = asked.id
       or (d.status = 'failed' and coalesce(d.metadata ->> 'collection', 'default') = asked.name))
limit %(limit)s

-- name: move_rest
-- Documents that are gone are remembered for ever; those being worked on find their own way.
update documents
set collection_id = (select id from collections where tenant_id = %(tenant)s and name = 'default')
where id in (select id from documents
             where tenant_id = %(tenant)s and published_generation is null
               and collection_id in (select id from collections where id = %(id)s or candidate_of = %(id)s)
             limit %(limit)s)

-- name: left
-- In it, or in its candidate, which goes with it.
select exists (
    select from collections k
    where (k.id = %(id)s or k.candidate_of = %(id)s)
      and (exists (select from documents
                   where tenant_id = %(tenant)s and (collection_id = k.id or (staged ->> 'collection')::bigint = k.id))
           or exists (select from editions e where e.collection_id = k.id))
) as some

-- name: forget_lexemes
delete from lexemes where collection_id in (select id from collections where id = %(id)s or candidate_of = %(id)s)

-- name: remove
delete from collections where id = %(id)s or candidate_of = %(id)s
