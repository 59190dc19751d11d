-- Answers that can be asked for again.

-- name: begin
with old as (delete from answers where created_at < now() - interval '1 day')
insert into answers (id, tenant_id, request, acl, lease_until)
values (%(id)s, %(tenant)s, %(request)s, %(acl)s, now() + make_interval(secs => %(lease)s))

-- name: finish
update answers set status = %(status)s, body = %(body)s where id = %(id)s

-- name: sources
insert into answer_sources (answer_id, tenant_id, document_id, generation)
select %(id)s, %(tenant)s, * from unnest(%(documents)s::uuid[], %(generations)s::int[])
on conflict do nothing

-- name: release
update answers set lease_until = now() where id = %(id)s and status = 'running'

-- name: resume
-- Taken over when nobody writes it any more.
update answers set lease_until = now() + make_interval(secs => %(lease)s)
where id = %(id)s and status = 'running' and lease_until <= now()
  and ((select sees_all_labels()) or acl <@ coalesce((select asked_labels()), '{}'))
returning request

-- name: get
-- For those who see whatever labels the one who asked saw.
select a.status, a.request, a.body,
       not exists (
           select from answer_sources s
           left join documents d on d.id = s.document_id and d.published_generation = s.generation
           where s.answer_id = a.id and d.id is null
       ) as current
from answers a
where a.id = %(id)s and ((select sees_all_labels()) or a.acl <@ coalesce((select asked_labels()), '{}'))

-- name: woke
insert into wakeups (model, waited_s) values (%(model)s, %(waited_s)s)

-- name: eta
select percentile_cont(0.5) within group (order by waited_s) as seconds
from (select waited_s from wakeups where model = %(model)s order by at desc limit 10) as recent
