-- Hybrid retrieval. Every candidate is scored on both sides and the scores are added: cosine similarity, and BM25 as
-- a share of the most the question could get. Neither depends on which other candidates there are, so the exact and
-- the approximate way rank alike. On 1190 questions this beat rank fusion, and scores stretched over the candidates
-- (scripts/bench quality). {documents} are those of the collections as they are, or of their candidates.

-- name: scope
-- What a question is about to search, and its epoch; visible are the chunks whose labels the caller may see. Leaves
-- the question's rarest words, which together stand in few chunks, in app.terms, where the policy of chunk_terms
-- reads them; weights are the question's lexemes with their IDF. Where the canary found that the index misses too much,
-- it is searched wider, or not used. nearest: whether the space's function of that name is as good a way as any; it
-- searches the graph of all collections, of which this one should be a good part, without a graph of its own.
with scope as materialized (
    select c.id, c.language, c.chunks, c.documents, t.epoch, c.chunks - coalesce((
        select sum(l.chunks) from label_sets l
        where l.collection_id = c.id and not (select sees_all_labels())
          and not coalesce(l.acl && (select asked_labels()), false)), 0)::bigint as visible
    from collections c join tenants t on t.id = c.tenant_id
    where c.tenant_id = %(tenant)s and c.name = %(collection)s
), words as materialized (
    select asked.lexeme, lexeme_index(asked.lexeme) as index, l.chunks,
           ln(1 + (scope.chunks - known.chunks + 0.5::float8) / (known.chunks + 0.5::float8)) as idf,
           sum(l.chunks) over (order by l.chunks, l.lexeme) as running
    from scope
    cross join unnest(tsvector_to_array(to_tsvector(scope.language, %(question)s))) as asked (lexeme)
    left join lexemes l on l.collection_id = scope.id and l.lexeme = asked.lexeme
    cross join lateral (select case when l.chunks <= scope.chunks then l.chunks else 0 end as chunks) as known
)
select id, chunks, documents, epoch, visible, active.space as active_space,
       coalesce(tuned.exact, false) as always_exact,
       to_regproc('nearest_' || active.space) is not null
           and to_regclass(format('vectors_%%s_hnsw_%%s', active.space, id)) is null
           and 3 * chunks > (select reltuples from pg_class where oid = to_regclass('vectors_' || active.space)) as nearest,
       case when tuned.ef_search is not null then
           set_config('hnsw.ef_search', greatest(tuned.ef_search, current_setting('hnsw.ef_search', true)::int)::text, true)
       end as ef_search, set_config('app.terms', coalesce((
    select string_agg(quote_literal(scope.id || ':' || lexeme), '|')
    from words where chunks > 0 and (running <= %(rare)s or running = words.chunks)), ''), true) as terms,
       (select '{' || coalesce(string_agg(index || ':' || idf, ','), '') || '}/268435456'
        from (select index, sum(idf) as idf from words group by index) as hashed) as weights,
       -- no word weighs more than k1 + 1 = 1.9 times its IDF
       (select greatest(1.9 * sum(idf), 1e-9) from words) as most,
       (select jsonb_object_agg(lexeme, idf) from words) as words
from scope
cross join (select s.id as space from spaces s where s.state = 'active') as active
left join search_tunings tuned on tuned.collection_id = scope.id and tuned.space_id = active.space

-- name: filtered
-- How many chunks the documents that pass the filter have; counting ends at the limit, where it no longer matters.
select coalesce(sum(chunks), 0)::bigint as chunks
from (
    select d.chunks from {documents} d
    where d.collection_id = %(collection_id)s and d.published_generation is not null and {document_filter}
    limit %(most)s
) as counted

-- name: exact
-- Every chunk in scope is scored: nothing can be missed.
with pool as materialized (
    select c.id, -(c.weights <#> %(weights)s::sparsevec) as lexical, 1 - (v.embedding <=> %(vector)s) as dense
    from {documents} d
    join chunks c on c.document_id = d.id and c.generation = d.published_generation
    join {vectors} v on v.chunk_id = c.id
    where d.collection_id = %(collection_id)s and d.published_generation is not null and {document_filter} and {filter}
),

-- name: exact_keywords
-- The same without a vector, when the encoder is not the one of the index.
with pool as materialized (
    select c.id, -(c.weights <#> %(weights)s::sparsevec) as lexical, 0.0::float8 as dense
    from {documents} d
    join chunks c on c.document_id = d.id and c.generation = d.published_generation
    where d.collection_id = %(collection_id)s and d.published_generation is not null and {document_filter} and {filter}
      and -(c.weights <#> %(weights)s::sparsevec) > 0
),

-- name: exact_vectors
-- The same without keywords.
with pool as materialized (
    select c.id, 0.0::float8 as lexical, 1 - (v.embedding <=> %(vector)s) as dense
    from {documents} d
    join chunks c on c.document_id = d.id and c.generation = d.published_generation
    join {vectors} v on v.chunk_id = c.id
    where d.collection_id = %(collection_id)s and d.published_generation is not null and {document_filter} and {filter}
),

-- name: ann
-- Candidates: the nearest by HNSW (which goes on scanning until enough pass the filter), and the best by BM25
-- among the chunks that hold one of the question's rarest words.
with nearest as materialized (
    select v.chunk_id as id, 1 - (v.embedding <=> %(vector)s) as dense
    from {vectors} v
    join {documents} d on d.id = v.document_id and d.published_generation = v.generation
    {chunks_join}
    where v.collection_id = %(collection_id)s and {filter}
    order by {nearness}
    limit %(nearest)s
), {worded}, pool as materialized (
    select n.id, -(c.weights <#> %(weights)s::sparsevec) as lexical, n.dense
    from nearest n join chunks c on c.id = n.id
    union
    select w.id, w.lexical, 1 - (v.embedding <=> %(vector)s)
    from worded w join {vectors} v on v.chunk_id = w.id
),

-- name: ann_vectors
with pool as materialized (
    select v.chunk_id as id, 0.0::float8 as lexical, 1 - (v.embedding <=> %(vector)s) as dense
    from {vectors} v
    join {documents} d on d.id = v.document_id and d.published_generation = v.generation
    {chunks_join}
    where v.collection_id = %(collection_id)s and {filter}
    order by {nearness}
    limit %(nearest)s
),

-- name: ann_keywords
with {worded}, pool as materialized (
    select id, lexical, 0.0::float8 as dense from worded
),

-- name: worded
-- The best come first, so that no more documents are looked up than it takes to fill the candidates. The chunks are an
-- array, which one scan of their index finds all of.
worded as materialized (
    select c.id, c.lexical
    from (
        select c.id, c.document_id, c.generation, c.page, -(c.weights <#> %(weights)s::sparsevec) as lexical
        from chunks c
        where c.id = any(array(select chunk_id from chunk_terms limit %(most_worded)s))
        order by lexical desc, c.id
    ) as c
    join {documents} d on d.id = c.document_id and d.published_generation = c.generation
    where {filter}
    order by c.lexical desc, c.id
    limit %(candidates)s
)

-- name: fused
ranked as materialized (
    select id, dense, lexical / %(most)s as lexical,
           %(dense_weight)s * greatest(dense, 0) + (1 - %(dense_weight)s) * lexical / %(most)s as score
    from pool
    order by score desc, id
    limit %(limit)s
)
select r.id as chunk_id, c.document_id, c.generation, 's3://' || d.bucket || '/' || d.key as uri, c.text, c.page, c.headings,
       c.start_char as start, r.score, r.dense, r.lexical, d.metadata
from ranked r
join chunks c on c.id = r.id
join documents d on d.id = c.document_id
order by r.score desc, r.id

-- name: standing
-- One document among everything in the pool: the best of its chunks on each side, and how many are better.
scored as materialized (
    select id, dense, lexical / %(most)s as lexical,
           %(dense_weight)s * greatest(dense, 0) + (1 - %(dense_weight)s) * lexical / %(most)s as score
    from pool
), mine as materialized (
    select count(*) as chunks, max(s.dense) as dense, max(s.lexical) as lexical, max(s.score) as score
    from scored s join chunks c using (id)
    where c.document_id = %(document)s
)
select exists (select from documents d where d.id = %(document)s) as visible, mine.chunks,
       (select count(*) from scored) as scope,
       mine.dense as meaning, (select count(*) + 1 from scored where dense > mine.dense) as meaning_rank,
       mine.lexical as words, (select count(*) + 1 from scored where lexical > mine.lexical) as words_rank,
       mine.score as fused, (select count(*) + 1 from scored where score > mine.score) as fused_rank
from mine

-- name: neighbours
-- The chunks before and after the given ones, as far as a citation into them names the same page.
select c.id as of, n.id, n.ordinal - c.ordinal as side, n.text, n.start_char as start, n.end_char as end
from chunks c
join {documents} d on d.id = c.document_id and d.published_generation = c.generation
join chunks n on n.document_id = c.document_id and n.generation = c.generation
    and n.ordinal in (c.ordinal - 1, c.ordinal + 1)
    and n.page is not distinct from c.page and n.headings = c.headings
where c.id = any(%(ids)s)
