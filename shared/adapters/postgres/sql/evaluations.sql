-- Runs of question sets in one space, and what each question was answered with.

-- name: make
insert into evaluations (tenant_id, name, space_id, space_name, questions_digest, k, generated, made_by)
values (%(tenant)s, %(name)s, %(space)s, %(space_name)s, %(digest)s, %(k)s, %(generated)s, %(made_by)s)
returning id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at

-- name: get
select id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at
from evaluations where tenant_id = %(tenant)s and id = %(id)s

-- name: list
select id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at
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
returning id, name, space_id, space_name, questions_digest, k, generated, summary, made_by, created_at, finished_at

-- name: recent
-- Questions that were lately answered by a model, newest first, each once.
select question, collection from (
    select distinct on (question, collection) request ->> 'question' as question, request ->> 'collection' as collection,
           created_at
    from answers where tenant_id = %(tenant)s and request ->> 'filter' is null
    order by question, collection, created_at desc
) as asked
order by created_at desc limit %(limit)s
