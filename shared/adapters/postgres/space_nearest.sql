-- What a question in the mode fast is answered by, where all of the collection is asked for and seen. A function, for what
-- it is planned to do is kept by the server's process until it ends, whoever is connected to it; behind a transaction
-- pooler a prepared statement is not. Nearly all of the nearest are published, so documents are looked up from the best on
-- until there are enough, and not for each; gives fewer rows when many are not. {taken} is part of the text: of a
-- parameter the planner would think that it is a tenth of all. The one plan is for collections of all sizes, and must be by
-- the index, which alone needs no sorting to be in order. Replaced by scripts/migrate; other columns need another name.
create or replace function nearest_{space}(asked {column}, collection bigint, wanted integer)
returns table (
    chunk_id bigint, document_id uuid, generation integer, uri text, text text, page integer, headings text[],
    start integer, score float8, dense float8, lexical float8, metadata jsonb
)
language plpgsql stable set enable_sort = off
as $$
#variable_conflict use_column
begin
    return query
    select r.id, r.document_id, r.generation, 's3://' || d.bucket || '/' || d.key, c.text, c.page, c.headings,
           c.start_char, r.score, r.dense, 0.0::float8, d.metadata
    from (
        select id, document_id, generation, greatest(dense, 0) as score, dense
        from (
            select v.chunk_id as id, v.document_id, v.generation, 1 - (v.embedding <=> asked) as dense
            from vectors_{space} v
            where v.collection_id = collection
            order by {nearness}
            limit {taken}
        ) as v
        order by score desc, id
    ) as r
    join documents d on d.id = r.document_id and d.published_generation = r.generation
    join chunks c on c.id = r.id
    order by r.score desc, r.id
    limit wanted;
end
$$
