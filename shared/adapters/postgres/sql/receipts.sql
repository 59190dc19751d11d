-- What the receipt of a deleted document says.

-- name: note_removed
-- Added to what was removed from these places before.
update deletions
set removed = removed || coalesce((
    select jsonb_object_agg(place, jsonb_build_object(
        'removed', coalesce((removed -> place ->> 'removed')::bigint, 0) + count, 'at', now()))
    from unnest(%(places)s::text[], %(counts)s::bigint[]) as new (place, count)), '{}')
where document_id = %(id)s

-- name: has_receipt
select 1 as found from deletions where document_id = %(id)s

-- name: spaces
select id, name from spaces order by id

-- name: count_vectors
select count(*) as vectors from {vectors} where document_id = %(id)s
