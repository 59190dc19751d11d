-- Candidates: a collection as it would be with other chunk sizes, another language or another parser. Built beside it under
-- an id of its own, so that its word counts and its graph are its own, too, and exchanged with it at once.

alter table collections
    -- the collection it is the other side of; nobody asks such a one but who judges it
    add column candidate_of bigint references collections (id) deferrable initially deferred,
    -- building: to come. retired: questions were answered from it before. going: it is being removed.
    add column candidate_state text check (candidate_state in ('building', 'retired', 'going')),
    -- of a building one: how the newest of its documents were made; the others have to be made so, too
    add column pipeline text,
    add check ((candidate_of is null) = (candidate_state is null));
create unique index collections_candidates on collections (candidate_of) where candidate_of is not null;
grant update (name, candidate_of, candidate_state, pipeline) on collections to ragzero_query;
grant select (candidate_of) on collections to ragzero_reindex;

-- The generation of a document that belongs to the candidate. Where that is exchanged with its collection, so are these
-- columns with those of the document.
create table editions (
    document_id uuid primary key references documents (id) on delete cascade,
    tenant_id uuid not null,
    collection_id bigint not null references collections (id) deferrable initially deferred,
    generation integer not null,
    -- the fencing token of who makes it: an attempt on the document
    attempt bigint not null,
    -- waiting: for the embedding job
    status text not null default 'making' check (status in ('making', 'waiting', 'whole', 'failed')),
    reason text,
    -- what it was made of, and how
    content_hash bytea,
    pipeline text,
    media_type text,
    pages integer,
    flags text[] not null default '{}',
    chunks integer not null default 0
);
create index editions_collection on editions (collection_id);
alter table editions enable row level security;
alter table editions force row level security;
create policy tenant on editions using (tenant_id = (select current_tenant()));
create policy sweep on editions for select to ragzero_reindex using (sweeping());
grant select, insert, update, delete on editions to ragzero_ingest;
grant select, update, delete on editions to ragzero_query;
grant select, update (status, reason), delete on editions to ragzero_embed;
grant select on editions to ragzero_reindex;

-- An exchange counts for itself, all at once.
create function exchanging() returns boolean
language sql stable parallel safe
return coalesce(current_setting('app.exchange', true) = 'on', false);

-- What a candidate holds; new ones are not whole yet.
create function count_editions() returns trigger
language plpgsql
as $$
begin
    update collections k
    set documents = k.documents + changed.documents, chunks = k.chunks + changed.chunks
    from (
        select collection_id, sum(sign) as documents, sum(sign * chunks) as chunks
        from (values (-1, old.collection_id, old.chunks, old.status), (1, new.collection_id, new.chunks, new.status))
             as side (sign, collection_id, chunks, status)
        where status = 'whole'
        group by collection_id
    ) as changed
    where k.id = changed.collection_id;
    return null;
end
$$;
create trigger editions_counted after update or delete on editions
    for each row when (not exchanging()) execute function count_editions();
drop trigger labels_counted on documents;
create trigger labels_counted after update on documents
    for each row when ((old.acl, old.collection_id, old.published_generation, old.chunks)
                       is distinct from (new.acl, new.collection_id, new.published_generation, new.chunks)
                       and (old.acl is not null or new.acl is not null) and not exchanging())
    execute function count_labels();

-- The documents of candidates, as a search looks at them. Who may not see a document does not see it here either.
create view candidate_documents with (security_invoker = true) as
select d.id, d.tenant_id, e.collection_id, d.bucket, d.key, d.media_type, d.metadata, d.acl, d.created_at,
       e.generation as published_generation, e.chunks
from editions e join documents d on d.id = e.document_id
where e.status = 'whole' and d.published_generation is not null;
grant select on candidate_documents to ragzero_query;

-- Whoever locks a document in order to change what its collection holds has this shared until the commit, from before
-- that lock on; an exchange has it alone, so that nothing is published into what was the collection a moment ago.
create function hold_collections() returns boolean
language sql volatile
begin atomic
    select pg_advisory_xact_lock_shared(7291004, hashtext(current_tenant()::text));
    select true;
end;

-- An edition may be visible any time, so it counts.
create or replace function space_lacks(space integer, most bigint) returns bigint
language plpgsql volatile
as $$
declare
    tenant uuid;
    lacking bigint := 0;
    found_here bigint;
begin
    for tenant in select id from tenants loop
        perform set_config('app.tenant_id', tenant::text, true);
        execute format(
            'select count(*) from (
                 select from documents d join chunks c on c.document_id = d.id
                 where (c.generation = d.published_generation
                        or exists (select from embed_waiting w
                                   where w.document_id = d.id and w.generation = c.generation)
                        or exists (select from editions e
                                   where e.document_id = d.id and e.generation = c.generation and e.status = ''whole''))
                   and not exists (select from vectors_%s v where v.chunk_id = c.id)
                 limit %s) as lacking', space, most - lacking) into found_here;
        lacking := lacking + found_here;
        exit when lacking >= most;
    end loop;
    perform set_config('app.tenant_id', '', true);
    return lacking;
end
$$;

-- A candidate that goes takes its chunks along; nothing else is for the API to remove. Their words are its own.
grant delete on chunks to ragzero_query;
create policy of_going on chunks as restrictive for delete to ragzero_query
    using (exists (select from collections k where k.id = collection_id and k.candidate_state = 'going'));

-- Which candidates took the place of their collection, and on what grounds.
create table collection_changes (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    collection text not null,
    kind text not null check (kind in ('promote', 'rollback')),
    from_collection bigint not null,
    to_collection bigint not null,
    from_settings text not null,
    to_settings text not null,
    documents bigint not null,
    -- the evaluations that were compared, and what came of it
    evidence jsonb not null default '[]',
    forced_because text,
    changed_by text not null,
    at timestamptz not null default now()
);
create index collection_changes_listing on collection_changes (tenant_id, id desc);
alter table collection_changes enable row level security;
alter table collection_changes force row level security;
create policy tenant on collection_changes using (tenant_id = (select current_tenant()));
grant select, insert on collection_changes to ragzero_query;
create policy sweep on collection_changes to ragzero_reindex using (sweeping());
grant select (tenant_id), delete on collection_changes to ragzero_reindex;

-- An evaluation in a candidate: of which one, and of which collection that was.
alter table evaluations
    add column candidate_id bigint,
    add column candidate_of text;
