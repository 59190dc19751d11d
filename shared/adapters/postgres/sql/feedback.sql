-- What people thought of answers.

-- name: give
-- About an answer that is kept for whoever asks, or about one whose question the caller repeats; the last word counts,
-- except about what was asked, and of what.
with kept as (
    select a.request ->> 'question' as question, a.request ->> 'collection' as collection,
           nullif(a.request -> 'filter', 'null') as filter
    from answers a
    where a.id = %(answer)s and ((select sees_all_labels()) or a.acl <@ coalesce((select asked_labels()), '{}'))
)
insert into answer_feedback as f (tenant_id, answer_id, key_id, question, rating, comment, expected, collection, filter)
select %(tenant)s, %(answer)s, %(key)s, asked.question, %(rating)s, %(comment)s, %(expected)s, asked.collection, asked.filter
from (
    select * from kept
    union all
    select %(question)s::text, %(collection)s::text, %(filter)s::jsonb where not exists (select from kept)
) as asked
where asked.question is not null
on conflict (tenant_id, answer_id, key_id) do update
set rating = excluded.rating, comment = excluded.comment, expected = excluded.expected, created_at = now(),
    collection = coalesce(f.collection, excluded.collection),
    filter = case when f.collection is null then excluded.filter else f.filter end
returning id

-- name: list
select id, answer_id, key_id, question, rating, comment, expected, created_at, collection, filter
from answer_feedback
where (%(rating)s::text is null or rating = %(rating)s)
  and (%(after_at)s::timestamptz is null or (created_at, id) < (%(after_at)s, %(after_id)s::bigint))
order by created_at desc, id desc
limit %(limit)s
