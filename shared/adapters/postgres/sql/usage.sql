-- What tenants used.

-- name: record
-- Added to today's; the month's bill so far comes back.
with today as (
    insert into usage_days as u (tenant_id, day, questions, hits, prompt_tokens, completion_tokens, gpu_seconds, cost_usd)
    values (%(tenant)s, (now() at time zone 'utc')::date, %(questions)s, %(hits)s, %(prompt_tokens)s, %(completion_tokens)s,
            %(gpu_seconds)s, %(cost_usd)s::numeric)
    on conflict (tenant_id, day) do update
    set questions = u.questions + excluded.questions, hits = u.hits + excluded.hits,
        prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = u.completion_tokens + excluded.completion_tokens,
        gpu_seconds = u.gpu_seconds + excluded.gpu_seconds, cost_usd = u.cost_usd + excluded.cost_usd
    returning cost_usd
)
select ((select cost_usd from today) + coalesce((
    select sum(cost_usd) from usage_days
    where tenant_id = %(tenant)s and day >= date_trunc('month', now() at time zone 'utc')
      and day < (now() at time zone 'utc')::date), 0))::float8 as spent

-- name: spent
select coalesce(sum(cost_usd), 0)::float8 as spent from usage_days
where tenant_id = %(tenant)s and day >= date_trunc('month', now() at time zone 'utc')

-- name: days
select day, questions, hits, prompt_tokens, completion_tokens, gpu_seconds, cost_usd::float8 as cost_usd
from usage_days
where tenant_id = %(tenant)s and day between %(first)s and %(last)s
order by day
