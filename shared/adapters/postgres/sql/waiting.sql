-- What is left to the embedding job, and who waits for it.

-- name: slice_work
-- Of the active space: while we hold the spaces, it remains that. No row when it is another one than we know, or when the
-- collection was exchanged.
insert into embed_work (tenant_id, document_id, generation, first_ordinal, last_ordinal, chunks)
select %(tenant)s, %(id)s, %(generation)s, min(ordinal), max(ordinal), count(*)
from (
    select c.ordinal, (row_number() over (order by c.ordinal) - 1) / %(slice)s as slice
    from chunks c
    where c.document_id = %(id)s and c.generation = %(generation)s
      and not exists (select from {vectors} v where v.chunk_id = c.id)
      and exists (select from spaces s where s.id = %(space)s and s.state = 'active')
      and exists (select from collections k
                  where k.id = c.collection_id
                    and case when %(edition)s then k.candidate_state <> 'going' else k.candidate_of is null end)
) as missing
group by slice
order by slice

-- name: backlog
select coalesce(sum(chunks), 0)::bigint as chunks from embed_work where tenant_id = %(tenant)s

-- name: take_waiting
-- Who deletes the row publishes, or gives up: two jobs that finish one document at once do it once.
delete from embed_waiting where document_id = %(id)s and generation = %(generation)s returning 1 as taken

-- name: end_edition
-- Of one that waited. The document is searchable as before.
update editions set status = %(status)s, reason = %(reason)s
where document_id = %(id)s and generation = %(generation)s and status = 'waiting'
  and exists (select from spaces s where s.id = %(space)s and s.state = 'active')
returning chunks
