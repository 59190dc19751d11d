-- What should not be there any more: counted over all tenants, of what had time enough to go.

-- name: spaces
select id from spaces order by id

-- name: chunks_of_deleted
select count(*) as found from chunks c join documents d on d.id = c.document_id
where d.status in ('deleted', 'failed') and d.updated_at < now() - make_interval(secs => %(grace)s)

-- name: chunks_of_older_generations
select count(*) as found from chunks c join documents d on d.id = c.document_id
where c.generation < d.published_generation
  and not exists (select from editions e where e.document_id = d.id and e.generation = c.generation)
  and d.updated_at < now() - make_interval(secs => %(grace)s)

-- name: editions_of_deleted
select count(*) as found from editions e join documents d on d.id = e.document_id
where d.status in ('deleted', 'failed') and d.updated_at < now() - make_interval(secs => %(grace)s)

-- name: metadata_of_deleted
select count(*) as found from facets f join documents d on d.id = f.document_id
where d.status = 'deleted' and d.updated_at < now() - make_interval(secs => %(grace)s)

-- name: answers_kept_too_long
select (select count(*) from answers where created_at < now() - interval '1 day' - make_interval(secs => %(grace)s))
     + (select count(*) from semantic_answers s join tenants t on t.id = s.tenant_id
        where s.epoch < t.epoch and s.created_at < now() - make_interval(secs => %(grace)s)) as found

-- name: responses_kept_too_long
select count(*) as found from idempotent_requests
where created_at < now() - interval '1 day' - make_interval(secs => %(grace)s)

-- name: vectors_of_deleted
select count(*) as found from {vectors} v join documents d on d.id = v.document_id
where d.status in ('deleted', 'failed') and d.updated_at < now() - make_interval(secs => %(grace)s)

-- name: erased_epochs
-- Up to which epoch nothing of a tenant may be kept: what was erased was in answers of older ones.
select tenant_id as tenant, max(epoch) as epoch from deletions
where erased_at < now() - make_interval(secs => %(grace)s) and epoch is not null
group by tenant_id

-- name: discarded
select body from discarded_letters where body not in ('', '{}') order by message_id limit %(limit)s

-- name: erased
-- Receipts keep no names, but who knows one can tell.
select count(*) as found from unnest(%(keys)s::text[]) as named (key)
where exists (select from deletions r where r.key_hash = sha256(convert_to(named.key, 'UTF8'))
                                        and r.erased_at < now() - make_interval(secs => %(grace)s))
  and not exists (select from documents d where d.bucket = %(bucket)s and d.key = named.key)

-- name: keep
with old as (delete from audits where finished_at < now() - interval '2 years')
insert into audits (findings, clean) values (%(findings)s, %(clean)s) returning id

-- name: expired
-- Searchable documents whose metadata says after how many days they are to go, and that have been there so long.
select tenant_id, key, (metadata ->> 'expires_after')::integer as days from documents
where bucket = %(bucket)s and published_generation is not null
  and case when metadata ->> 'expires_after' ~ '^[0-9]{1,5}$'
           then created_at < now() - make_interval(days => (metadata ->> 'expires_after')::integer) else false end
  and key > %(after)s collate "C"
order by key collate "C"
limit %(limit)s
