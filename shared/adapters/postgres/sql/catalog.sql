-- What the API reads about documents and keys.

-- name: key
-- Found through the policies `presented`, before any tenant is known.
select k.id, k.tenant_id, k.digest, k.scopes, k.acl, extract(epoch from k.expires_at)::float8 as expires_at,
       k.rate as key_rate, k.burst as key_burst, t.rate as tenant_rate, t.burst as tenant_burst, t.streams, t.budget_usd,
       k.revoked_at is null and t.closed_at is null and (k.expires_at is null or k.expires_at > now()) as active,
       t.epoch
from api_keys k join tenants t on t.id = k.tenant_id
where k.id = %(id)s

-- name: used
update api_keys set last_used_at = now()
where id = %(id)s and (last_used_at is null or last_used_at < now() - make_interval(secs => %(seconds)s))

-- name: collections
-- Less what the caller's labels hide.
select c.id, c.name, c.language::text, c.chunk_tokens, c.overlap_tokens, c.created_at,
       c.documents - coalesce(hidden.documents, 0) as documents, c.chunks - coalesce(hidden.chunks, 0) as chunks
from collections c
left join lateral (
    select sum(l.documents)::bigint as documents, sum(l.chunks)::bigint as chunks from label_sets l
    where l.collection_id = c.id and not (select sees_all_labels()) and not coalesce(l.acl && (select asked_labels()), false)
) as hidden on true
where c.tenant_id = %(tenant)s and c.candidate_of is null and (%(name)s::text is null or c.name = %(name)s)
  and (%(after_at)s::timestamptz is null or (c.created_at, c.id) < (%(after_at)s, %(after_id)s::bigint))
order by c.created_at desc, c.id desc
limit %(limit)s

-- name: document
select d.id, d.bucket, d.key, d.status, d.reason_code, d.reason, d.generation, d.published_generation, d.media_type,
       d.bytes, d.pages, d.chunks, d.timeline, d.metadata, d.flags, d.acl, d.created_at, d.updated_at,
       coalesce(other.name, c.name) as collection
from documents d join collections c on c.id = d.collection_id left join collections other on other.id = c.candidate_of
where d.id = %(id)s

-- name: documents
-- Newest first; the cursor is the last row of the page before. Deleted ones only when asked for.
select d.id, d.bucket, d.key, d.status, d.reason_code, d.reason, d.generation, d.published_generation, d.media_type,
       d.bytes, d.pages, d.chunks, d.timeline, d.metadata, d.flags, d.acl, d.created_at, d.updated_at,
       coalesce(other.name, c.name) as collection
from documents d join collections c on c.id = d.collection_id left join collections other on other.id = c.candidate_of
where d.tenant_id = %(tenant)s
  and (case when %(status)s::text is null then d.status <> 'deleted' else d.status = %(status)s end)
  and (%(collection)s::text is null or coalesce(other.name, c.name) = %(collection)s)
  and (%(after_at)s::timestamptz is null or (d.created_at, d.id) < (%(after_at)s, %(after_id)s::uuid))
order by d.created_at desc, d.id desc
limit %(limit)s
