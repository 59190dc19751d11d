-- The embedding job's queue. Whoever holds a slice under its newest token may write; nobody else matches a row.

-- name: has_work
select exists (select from embed_waiting) as found

-- name: claim_slices
-- Slices nobody has tried are taken together, up to a number of chunks. One that was tried before is taken alone,
-- when no other is left: if it kills whoever touches it, it kills for itself only.
with free as (
    select id, chunks, attempts from embed_work
    where (lease_until is null or lease_until < now()) and attempts < %(max_attempts)s
      and exists (select from spaces s where s.id = %(space)s and s.state = 'active')
    order by attempts > 0, id
    limit %(slices)s
    for update skip locked
), counted as (
    select id, attempts,
           sum(chunks) over sequence - chunks as before,
           row_number() over sequence as place
    from free
    window sequence as (order by attempts > 0, id)
), chosen as (
    select id from counted where place = 1 or (attempts = 0 and before < %(chunks)s)
)
update embed_work w
set token = w.token + 1, attempts = w.attempts + 1, lease_until = now() + make_interval(secs => %(lease)s)
from chosen where w.id = chosen.id
returning w.id, w.tenant_id, w.document_id, w.generation, w.first_ordinal, w.last_ordinal, w.chunks, w.token,
          w.attempts, w.last_error

-- name: exhausted
-- Documents with a slice that was tried often enough, and with what its last try said.
select distinct on (document_id) tenant_id, document_id, generation, attempts, last_error
from embed_work
where attempts >= %(max_attempts)s and (lease_until is null or lease_until < now())
order by document_id, id

-- name: embedded
-- Documents of which every slice is done; the shortest wait between that and publishing is none.
select w.tenant_id, w.document_id, w.generation from embed_waiting w
where not exists (select from embed_work s where s.document_id = w.document_id)
order by w.created_at
limit 100

-- name: next_lease_end
-- In how many seconds somebody else's lease runs out, should they be dead; null when no slice is left.
select extract(epoch from min(coalesce(lease_until, now())) - now())::float8 as seconds from embed_work

-- name: read_slice
select c.id, c.headings, c.text, encode(c.text_hash, 'hex') as text_hash
from chunks c
where c.document_id = %(document)s and c.generation = %(generation)s and c.ordinal between %(first)s and %(last)s
  and not exists (select from {vectors} v where v.chunk_id = c.id)
order by c.ordinal

-- name: finish_slice
-- The spaces are held from here on, so that the active one remains that.
delete from embed_work where id = %(id)s and token = %(token)s and (select hold_spaces()) returning 1 as held

-- name: give_back
-- Unused, so the try does not count.
update embed_work w set lease_until = null, attempts = w.attempts - 1
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where w.id = held.id and w.token = held.token

-- name: blame
update embed_work w set lease_until = null, last_error = %(error)s
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where w.id = held.id and w.token = held.token
