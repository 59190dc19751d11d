-- Answers found by meaning.

-- name: nearest
select a.question, a.body, a.epoch, 1 - (a.embedding <=> %(vector)s) as similarity,
       extract(epoch from now() - a.created_at)::int as age_s
from semantic_answers a
where a.tenant_id = %(tenant)s and a.partition = %(partition)s
  and a.epoch = (select epoch from tenants where id = %(tenant)s)
  and a.created_at > now() - make_interval(secs => %(seconds)s)
order by a.embedding <=> %(vector)s
limit 3

-- name: keep
-- Those of older epochs will never be found again, and a partition stays small.
with gone as (
    delete from semantic_answers
    where tenant_id = %(tenant)s and partition = %(partition)s
      and (epoch < %(epoch)s or created_at < now() - make_interval(secs => %(seconds)s)
           or id in (select id from semantic_answers where tenant_id = %(tenant)s and partition = %(partition)s
                     order by id desc offset %(most)s))
)
insert into semantic_answers (tenant_id, partition, epoch, question, embedding, body)
values (%(tenant)s, %(partition)s, %(epoch)s, %(question)s, %(vector)s, %(body)s)
