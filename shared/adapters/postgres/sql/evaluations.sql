-- Runs of question sets in one space, and what each question was answered with.

-- name: make
-- No row: the collection has no candidate.
with asked as (
    select %(tenant)s::uuid as tenant, %(candidate)s::text as collection
)
insert into evaluations (tenant_id, name, space_id, space_name, questions_digest, k, generated, made_by, candidate_id,
                         candidate_of)
select tenant, %(name)s, %(space)s, %(space_name)s, %(digest)s, %(k)s, %(generated)s, %(made_by)s, k.id, asked.collection
from asked
left join collections live on live.tenant_id = asked.tenant and live.name = asked.collection
left join collections k on k.candidate_of = live.id and k.candidate_state <> 'going'
where asked.collection is null or k.id is not null
returning id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at,
          candidate_id, candidate_of

-- name: get
select id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at,
          candidate_id, candidate_of
from evaluations where tenant_id = %(tenant)s and id = %(id)s

-- name: list
select id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at,
          candidate_id, candidate_of
from evaluations where tenant_id = %(tenant)s and id < coalesce(%(before)s::bigint, 9223372036854775807)
order by id desc limit %(limit)s

-- name: note
-- Asked again, a question counts once. No row: the evaluation is finished.
insert into evaluation_outcomes as o (evaluation_id, tenant_id, number, question, outcome)
select e.id, %(tenant)s, %(number)s, %(question)s, %(outcome)s from evaluations e
where e.id = %(id)s and e.finished_at is null
on conflict (evaluation_id, number) do update set question = excluded.question, outcome = excluded.outcome
returning number

-- name: outcomes
select number, question, outcome from evaluation_outcomes
where evaluation_id = %(id)s and number > %(after)s order by number limit %(limit)s

-- name: finish
update evaluations set summary = %(summary)s, finished_at = coalesce(finished_at, now()) where id = %(id)s
returning id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at,
          candidate_id, candidate_of

-- name: recent
-- Questions that were lately answered by a model, newest first, each once.
select question, collection from (
    select distinct on (question, collection) request ->> 'question' as question, request ->> 'collection' as collection,
           created_at
    from answers where tenant_id = %(tenant)s and request ->> 'filter' is null
    order by question, collection, created_at desc
) as asked
order by created_at desc limit %(limit)s

-- name: golden
-- What people said of answers, as questions with what is expected: the texts they would have had, and the documents that an
-- answer cites which somebody found good and nobody bad, as long as it is kept and they are there. Newest first, each once.
with said as (
    select f.question, coalesce(f.collection, a.request ->> 'collection') as collection, f.created_at,
           case when f.collection is null then nullif(a.request -> 'filter', 'null') else f.filter end as filter,
           nullif(btrim(f.expected), '') as expected,
           case when f.rating = 'good' and not exists (
               select from answer_feedback other where other.answer_id = f.answer_id and other.rating = 'bad'
           ) then a.body -> 'citations' else '[]' end as citations
    from answer_feedback f
    left join answers a on a.id = f.answer_id and a.status = 'done'
    where f.tenant_id = %(tenant)s
)
select said.question, said.collection, said.filter,
       coalesce(array_agg(distinct said.expected) filter (where said.expected is not null), '{}') as answers,
       coalesce(array_agg(distinct cited.uri) filter (where cited.uri is not null), '{}') as documents
from said
left join lateral (
    select 's3://' || d.bucket || '/' || d.key as uri
    from jsonb_array_elements(said.citations) as one join documents d on d.id = (one ->> 'document_id')::uuid
    where d.published_generation is not null
) as cited on true
group by said.question, said.collection, said.filter
having bool_or(said.expected is not null or cited.uri is not null)
order by max(said.created_at) desc, said.question
limit %(limit)s
