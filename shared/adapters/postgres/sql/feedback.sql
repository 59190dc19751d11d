-- What people thought of answers.

-- name: give
-- About an answer that is kept for whoever asks, or about one whose question the caller repeats; the last word counts.
insert into answer_feedback (tenant_id, answer_id, key_id, question, rating, comment, expected)
select %(tenant)s, %(answer)s, %(key)s, asked.question, %(rating)s, %(comment)s, %(expected)s
from (select coalesce((
    select a.request ->> 'question' from answers a
    where a.id = %(answer)s and ((select sees_all_labels()) or a.acl <@ coalesce((select asked_labels()), '{}'))
), %(question)s::text) as question) as asked
where asked.question is not null
on conflict (tenant_id, answer_id, key_id) do update
set rating = excluded.rating, comment = excluded.comment, expected = excluded.expected, created_at = now()
returning id

-- name: list
select id, answer_id, key_id, question, rating, comment, expected, created_at
from answer_feedback
where (%(rating)s::text is null or rating = %(rating)s)
  and (%(after_at)s::timestamptz is null or (created_at, id) < (%(after_at)s, %(after_id)s::bigint))
order by created_at desc, id desc
limit %(limit)s
