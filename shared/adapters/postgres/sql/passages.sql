-- Documents as they are read: the chunks of the generation that queries see.

-- name: excerpt
-- From the ordinal given, else from the chunk given, else from the first chunk that goes beyond the character given
-- (the last one where none does). One row without a chunk when there is nothing to show of a document that is there.
with document as (
    select d.id, d.published_generation as generation, d.chunks from documents d where d.id = %(id)s
), first as (
    select case
        when %(chunk)s::bigint is not null then (
            select c.ordinal from chunks c join document d on c.document_id = d.id and c.generation = d.generation
            where c.id = %(chunk)s)
        when %(at)s::integer is not null then (
            select coalesce(min(c.ordinal) filter (where c.end_char > %(at)s), max(c.ordinal))
            from chunks c join document d on c.document_id = d.id and c.generation = d.generation)
        else %(first)s::integer
    end as ordinal
)
select d.generation, case when d.generation is null then 0 else d.chunks end as total,
       c.id, c.ordinal, c.page, c.headings, c.text, c.start_char as start, c.end_char as end
from document d
left join lateral (
    select * from chunks c
    where c.document_id = d.id and c.generation = d.generation and c.ordinal >= (select ordinal from first)
    order by c.ordinal
    limit %(limit)s
) as c on true
order by c.ordinal
