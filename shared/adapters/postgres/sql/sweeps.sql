-- The sweep's walk through a bucket, page by page. Whoever holds a sweep under its newest token may move it on.

-- name: begin
-- The unfinished sweep of the bucket, taken over, or a new one; no row while somebody else is at it.
with taken as (
    update sweeps set token = token + 1, lease_until = now() + make_interval(secs => %(lease)s)
    where bucket = %(bucket)s and finished_at is null and (lease_until is null or lease_until < now())
    returning id, token, cursor, listed, counts
), made as (
    insert into sweeps (bucket, lease_until)
    select %(bucket)s, now() + make_interval(secs => %(lease)s)
    where not exists (select from sweeps where bucket = %(bucket)s and finished_at is null)
    on conflict (bucket) where finished_at is null do nothing
    returning id, token, cursor, listed, counts
)
select *, now() as at from taken union all select *, now() from made

-- name: advance
update sweeps
set cursor = %(cursor)s, listed = %(listed)s, counts = %(counts)s, error = null, updated_at = now(),
    lease_until = now() + make_interval(secs => %(lease)s)
where id = %(id)s and token = %(token)s
returning now() as at

-- name: pause
-- Somebody else, or the same one later, goes on.
update sweeps set lease_until = null, error = %(error)s, updated_at = now()
where id = %(id)s and token = %(token)s

-- name: finish
-- What this sweep has not found again is settled. The cursor is some document's key, which may be deleted one day.
with settled as (
    delete from sweep_findings f
    where f.bucket = %(bucket)s and f.sweep_id < %(id)s
      and exists (select from sweeps s where s.id = %(id)s and s.token = %(token)s)
)
update sweeps
set finished_at = now(), updated_at = now(), lease_until = null, error = null, counts = %(counts)s, cursor = ''
where id = %(id)s and token = %(token)s
returning now() as at

-- name: compare
-- Listed keys whose document is not what the bucket has (sent as binary arrays, which costs a tenth). Left alone is what somebody works on, what changed after
-- the page was asked for, and what is so new that its event may still be on its way; ages are taken on the clock
-- they belong to: the bucket's for objects, this database's for documents.
with listed as materialized (
    select * from unnest(%(keys)b::text[], %(etags)b::text[], %(sizes)b::bigint[], %(modified)b::timestamptz[])
        as listed (key, etag, size, modified)
), known as materialized (
    select d.*, w.document_id is not null as waiting,
           case when w.document_id is null then d.etag else d.staged -> 'version' ->> 'etag' end as current_etag,
           case when w.document_id is null then d.bytes else (d.staged -> 'version' ->> 'size')::bigint end as current_size
    from (
        select id, tenant_id, key, status, etag, bytes, staged, generation, lease_until, done_sequencer,
               object_modified, updated_at
        from documents
        where bucket = %(bucket)s and key collate "C" > %(after)s and key collate "C" <= %(newest)s
    ) as d
    left join embed_waiting w on w.document_id = d.id and w.generation = d.generation and d.staged is not null
), compared as (
    select l.key, l.modified, k.id, k.tenant_id, k.done_sequencer, k.updated_at,
           case when k.id is null then 'missing'
                when k.lease_until > now() then null
                when k.status in ('pending', 'processing') and not k.waiting then 'stuck'
                when k.status = 'deleted' then 'missing'
                when k.current_etag is distinct from l.etag or k.current_size is distinct from l.size then 'changed'
                -- the same bytes, put again, perhaps with other metadata
                when l.modified > k.updated_at and l.modified is distinct from k.object_modified then 'touched'
           end as kind
    from listed l left join known k on k.key = l.key
)
select c.key, c.modified, c.id as document_id, c.tenant_id, coalesce(c.done_sequencer, '') as done_sequencer,
       case when c.kind <> 'touched' then c.kind
            when f.modified = c.modified and f.hints > 0 and f.sequencer <= c.done_sequencer then 'looked_at'
            else 'changed' end as kind,
       case when f.modified = c.modified then f.hints else 0 end as hints,
       f.modified is distinct from c.modified or f.hinted_at is null
           or f.hinted_at < now() - make_interval(secs => %(patience)s) as due
from compared c left join sweep_findings f on f.bucket = %(bucket)s and f.key = c.key
where c.kind is not null and c.modified < %(settled_before)s
  and (c.id is null or (c.updated_at < %(asked_at)s
                        and (c.kind <> 'stuck' or c.updated_at < now() - make_interval(secs => %(grace)s))))

-- name: note
-- Written down before ingest is told.
insert into sweep_findings as f (bucket, key, tenant_id, document_id, kind, modified, sweep_id, seen_at)
select %(bucket)s, new.*, %(sweep)s, %(asked_at)s
from unnest(%(keys)s::text[], %(tenants)s::uuid[], %(documents)s::uuid[], %(kinds)s::text[],
            %(modified)s::timestamptz[]) as new
on conflict (bucket, key) do update
set tenant_id = excluded.tenant_id, document_id = excluded.document_id, sweep_id = excluded.sweep_id,
    seen_at = excluded.seen_at, modified = excluded.modified, kind = excluded.kind, held_by = null,
    -- another version of the object is another finding
    hints = case when f.modified is not distinct from excluded.modified then f.hints else 0 end,
    found_at = case when f.modified is not distinct from excluded.modified then f.found_at else excluded.found_at end

-- name: note_gone
-- Documents between two keys of which the listing, which has all keys in between, knows nothing. An upload that was
-- announced may take its time.
with absent as (
    select d.id, d.tenant_id, d.key from documents d
    where d.bucket = %(bucket)s and d.key collate "C" > %(after)s
      and (%(last)s::text is null or d.key collate "C" <= %(last)s)
      and d.status <> 'deleted' and d.updated_at < %(asked_at)s and (d.lease_until is null or d.lease_until < now())
      and (d.status <> 'pending' or (d.updated_at < now() - interval '15 minutes'
                                     and coalesce(d.upload_until < now(), true)))
      and not exists (select from unnest(%(keys)b::text[]) as listed (key) where listed.key = d.key)
    order by d.key collate "C"
    limit %(most_gone)s
), noted as (
    insert into sweep_findings as f (bucket, key, tenant_id, document_id, kind, sweep_id, seen_at)
    select %(bucket)s, key, tenant_id, id, 'gone', %(sweep)s, %(asked_at)s from absent
    on conflict (bucket, key) do update
    set kind = 'gone', modified = null, tenant_id = excluded.tenant_id, document_id = excluded.document_id,
        sweep_id = excluded.sweep_id, seen_at = excluded.seen_at,
        hints = case when f.kind = 'gone' then f.hints else 0 end,
        found_at = case when f.kind = 'gone' then f.found_at else excluded.found_at end
    returning key
)
select count(*) as found, max(key collate "C") as last from noted

-- name: looked_at
update documents d set object_modified = seen.modified
from unnest(%(documents)s::uuid[], %(modified)s::timestamptz[]) as seen (id, modified)
where d.id = seen.id

-- name: hold_back
-- Deletes of tenants that would lose too much at once, and all of them when the bucket seems empty. What was held back
-- once is so until somebody confirms the sweep that said so, or a later one; or until it is there again.
with open as (
    select f.key, f.tenant_id from sweep_findings f
    where f.bucket = %(bucket)s and f.sweep_id = %(id)s and f.kind = 'gone' and f.hints = 0
      and not exists (select from sweeps s where s.bucket = f.bucket and s.id >= f.held_by and s.confirmed_at is not null)
), losing as (
    select tenant_id, count(*) as gone from open group by tenant_id
), too_many as (
    select l.tenant_id from losing l
    where %(empty)s or (
        l.gone > %(most)s
        and l.gone > %(share)s * (select count(*) from documents d
                                  where d.tenant_id = l.tenant_id and d.bucket = %(bucket)s and d.status <> 'deleted')
    )
)
update sweep_findings f set held_by = %(id)s
from too_many t join open o on o.tenant_id = t.tenant_id
where f.bucket = %(bucket)s and f.key = o.key and f.held_by is null

-- name: held
select count(*) as documents from sweep_findings f
where f.bucket = %(bucket)s and f.sweep_id = %(id)s and f.held_by is not null
  and not exists (select from sweeps s where s.bucket = f.bucket and s.id >= f.held_by and s.confirmed_at is not null)

-- name: due
-- Deletes that ingest has to be told of now: those that nobody holds back, or that somebody has confirmed.
select f.key, f.kind, f.document_id, f.tenant_id, f.modified, d.done_sequencer, f.hints, true as due
from sweep_findings f
join documents d on d.id = f.document_id
join tenants t on t.id = f.tenant_id and t.closed_at is null
where f.bucket = %(bucket)s and f.sweep_id = %(id)s and f.kind = 'gone' and f.key > %(after)s
  and (f.held_by is null
       or exists (select from sweeps s where s.bucket = f.bucket and s.id >= f.held_by and s.confirmed_at is not null))
  and (f.hinted_at is null or f.hinted_at < now() - make_interval(secs => %(patience)s))
  and f.found_at <= now() - make_interval(secs => %(grace)s)
  and f.hints < %(max_hints)s and d.status <> 'deleted' and d.updated_at < f.seen_at
order by f.key
limit %(limit)s

-- name: hinted
update sweep_findings f set hints = f.hints + 1, hinted_at = now(), sequencer = sent.sequencer
from unnest(%(keys)s::text[], %(sequencers)s::text[]) as sent (key, sequencer)
where f.bucket = %(bucket)s and f.key = sent.key

-- name: told
-- Counted here and not on the way, because a sweep may be killed and taken over.
select f.kind, count(*) as findings
from sweep_findings f join sweeps s on s.id = f.sweep_id
where f.bucket = %(bucket)s and f.sweep_id = %(id)s and f.hints = 1 and f.hinted_at >= s.started_at
group by f.kind

-- name: unrepaired
-- Asked for so often that asking again is no use.
select count(*) as findings from sweep_findings where bucket = %(bucket)s and hints >= %(max_hints)s

-- name: existing_tenants
select id from tenants where id = any(%(tenants)s) and closed_at is null

-- name: of_closed
select d.key, d.done_sequencer from documents d join tenants t on t.id = d.tenant_id
where d.bucket = %(bucket)s and d.status <> 'deleted' and t.closed_at < now() - make_interval(days => %(days)s)
  and (d.lease_until is null or d.lease_until < now())
order by d.key
limit %(limit)s

-- name: forget_closed
with closed as (
    select id from tenants where closed_at < now() - make_interval(days => %(days)s)
), feedback as (
    delete from answer_feedback where tenant_id in (select id from closed) returning 1
), runs as (
    delete from evaluations where tenant_id in (select id from closed) returning 1
), exchanged as (
    delete from collection_changes where tenant_id in (select id from closed) returning 1
)
select (select count(*) from feedback) + (select count(*) from runs) + (select count(*) from exchanged) as removed

-- name: sleeping_work
-- Chunks that wait for the embedding job while nobody works on any; no row when nothing waits that long.
select coalesce(sum(w.chunks), 0)::bigint as chunks
from embed_waiting d left join embed_work w on w.document_id = d.document_id
where not exists (select from embed_work busy where busy.lease_until > now())
having min(d.created_at) < now() - make_interval(secs => %(patience)s)

-- name: untold
-- Tenants whose epoch some cache may not know.
select tenant_id from epoch_outbox order by at limit 1000

-- name: leftovers
-- Documents in a range of keys that nobody works on, with chunks besides those of the published generation and of the
-- edition.
select d.tenant_id, d.id, d.generation, d.published_generation
from documents d
left join editions e on e.document_id = d.id
cross join lateral (
    select (select c.generation from chunks c where c.document_id = d.id order by c.generation limit 1) as oldest,
           (select c.generation from chunks c where c.document_id = d.id order by c.generation desc limit 1) as newest
) as stored
where d.bucket = %(bucket)s and d.key collate "C" > %(after)s and (%(last)s::text is null or d.key collate "C" <= %(last)s)
  and (d.lease_until is null or d.lease_until < now()) and d.status not in ('pending', 'processing')
  and d.updated_at < now() - make_interval(secs => %(leftover_seconds)s)
  and stored.oldest is not null
  and (d.published_generation is null
       or stored.oldest not in (d.published_generation, coalesce(e.generation, d.published_generation))
       or stored.newest not in (d.published_generation, coalesce(e.generation, d.published_generation))
       or exists (select from chunks c
                  where c.document_id = d.id and c.generation > least(d.published_generation, e.generation)
                    and c.generation < greatest(d.published_generation, e.generation)))
limit %(most_leftovers)s

-- name: forget
-- What is kept for a while only. Answers can be asked for again for a day; those of an epoch that is over are found by
-- nobody; the rest explains what happened lately.
with old_answers as (
    delete from answers where id in (select id from answers where created_at < now() - interval '1 day' limit %(most)s)
    returning 1
), old_similar as (
    delete from semantic_answers where id in (
        select s.id from semantic_answers s join tenants t on t.id = s.tenant_id
        where s.epoch < t.epoch or s.created_at < now() - interval '30 days' limit %(most)s)
    returning 1
), old_usage as (
    delete from usage_days where day < current_date - interval '25 months' returning 1
), old_wakeups as (
    delete from wakeups where at < now() - interval '30 days' returning 1
), old_messages as (
    delete from webhook_messages where given_up_at < now() - interval '7 days' returning 1
), old_jobs as (
    delete from jobs where created_at < now() - interval '30 days' returning 1
), old_sweeps as (
    delete from sweeps s
    where finished_at < now() - interval '30 days'
      and not exists (select from sweep_findings f where f.bucket = s.bucket and f.held_by <= s.id)
    returning 1
)
select (select count(*) from old_answers) as answers, (select count(*) from old_similar) as semantic_answers,
       (select count(*) from old_usage) as usage_days, (select count(*) from old_wakeups) as wakeups,
       (select count(*) from old_messages) as webhook_messages, (select count(*) from old_jobs) as jobs, (select count(*) from old_sweeps) as sweeps

-- name: silent_requesters
-- Tenants of whom answers to requests that may be sent twice are kept longer than they have to be; those who ask on
-- remove their own.
select distinct tenant_id from idempotent_requests where created_at < now() - interval '1 day' limit %(most)s

-- name: forget_requests
delete from idempotent_requests where tenant_id = %(tenant)s and created_at < now() - interval '1 day'
