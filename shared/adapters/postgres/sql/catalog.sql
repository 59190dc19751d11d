-- What the API reads about documents and keys.

-- name: key
-- Found through the policy `presented`, before any tenant is known.
select id, tenant_id, digest, scopes,
       revoked_at is null and (expires_at is null or expires_at > now()) as active
from api_keys where id = %(id)s

-- name: document
select d.id, d.bucket, d.key, d.status, d.reason_code, d.reason, d.generation, d.published_generation, d.media_type,
       d.bytes, d.pages, d.chunks, d.timeline, d.metadata, d.flags, d.created_at, d.updated_at,
       c.name as collection
from documents d join collections c on c.id = d.collection_id
where d.id = %(id)s

-- name: documents
-- Newest first; the cursor is the last row of the page before. Deleted ones only when asked for.
select d.id, d.bucket, d.key, d.status, d.reason_code, d.reason, d.generation, d.published_generation, d.media_type,
       d.bytes, d.pages, d.chunks, d.timeline, d.metadata, d.flags, d.created_at, d.updated_at,
       c.name as collection
from documents d join collections c on c.id = d.collection_id
where d.tenant_id = %(tenant)s
  and (case when %(status)s::text is null then d.status <> 'deleted' else d.status = %(status)s end)
  and (%(collection)s::text is null or c.name = %(collection)s)
  and (%(after_at)s::timestamptz is null or (d.created_at, d.id) < (%(after_at)s, %(after_id)s::uuid))
order by d.created_at desc, d.id desc
limit %(limit)s
