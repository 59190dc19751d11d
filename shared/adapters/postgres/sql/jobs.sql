-- Many documents at once: uploads on their way, and deletes.

-- name: make
insert into jobs (tenant_id, kind) values (%(tenant)s, %(kind)s) returning id

-- name: hold
-- Alone until the commit: nobody else adds to the job between the counting and the adding. What was added before is seen
-- by the statements after this one, not by this.
select pg_advisory_xact_lock(7291005, hashtext(%(id)s::text))

-- name: taking
-- One that takes more documents, and how many it has.
select j.id, (select count(*) from job_documents d where d.job_id = j.id) as documents
from jobs j where j.id = %(id)s and j.kind = %(kind)s

-- name: add
insert into job_documents (job_id, document_id, tenant_id)
select %(id)s, document, %(tenant)s from unnest(%(documents)s::uuid[]) as document
on conflict do nothing

-- name: get
-- remaining: of a delete, documents it is not through with.
select j.id, j.kind, j.created_at,
       (select count(*) from job_documents d where d.job_id = j.id and d.done_at is null) as remaining
from jobs j where j.id = %(id)s

-- name: counts
select d.status, count(*) as documents
from job_documents j join documents d on d.id = j.document_id
where j.job_id = %(id)s
group by d.status

-- name: failed
select d.id, 's3://' || d.bucket || '/' || d.key as uri, d.reason_code, d.reason
from job_documents j join documents d on d.id = j.document_id
where j.job_id = %(id)s and d.status = 'failed'
order by d.updated_at
limit %(limit)s

-- name: todo
select d.id, d.key from job_documents j join documents d on d.id = j.document_id
where j.job_id = %(id)s and j.done_at is null
limit %(limit)s

-- name: done
update job_documents set done_at = now() where job_id = %(id)s and document_id = any(%(documents)s)

-- name: matching
-- Documents that meet a filter, oldest first; matched: all of them.
select d.id, 's3://' || d.bucket || '/' || d.key as uri, count(*) over () as matched
from documents d join collections c on c.id = d.collection_id left join collections other on other.id = c.candidate_of
where d.tenant_id = %(tenant)s and d.status <> 'deleted'
  and (%(collection)s::text is null or coalesce(other.name, c.name) = %(collection)s) and {condition}
order by d.created_at, d.id
limit %(limit)s
