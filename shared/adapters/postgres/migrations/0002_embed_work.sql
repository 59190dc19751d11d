-- The embedding job's queue: documents that wait for their vectors, and the slices of their chunks that lack them.
-- Both carry ids only. Deleting a waiting document takes its slices along, and with them every claim to write.

create table embed_waiting (
    document_id uuid primary key references documents (id) on delete cascade,
    tenant_id uuid not null,
    generation integer not null,
    created_at timestamptz not null default now()
);

create table embed_work (
    id bigint generated always as identity primary key,
    tenant_id uuid not null,
    document_id uuid not null references embed_waiting (document_id) on delete cascade,
    generation integer not null,
    first_ordinal integer not null,
    last_ordinal integer not null,
    -- how many of them lack a vector
    chunks integer not null check (chunks > 0),
    -- token is the fencing token; attempts counts the claims that were not handed back unused
    token bigint not null default 0,
    attempts integer not null default 0,
    lease_until timestamptz,
    last_error text,
    created_at timestamptz not null default now()
);
create index embed_work_document on embed_work (document_id);
create index embed_work_tenant on embed_work (tenant_id);

-- What publishing a waiting document needs: the object's version, pages and flags, as ingest found them.
alter table documents add column staged jsonb;

do $$
declare
    name text;
begin
    foreach name in array array['embed_waiting', 'embed_work'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format(
            'create policy tenant on %I using (tenant_id = (select current_tenant()))', name);
        -- The job looks for work before it knows whose; it says so, transaction by transaction.
        execute format(
            'create policy job on %I to ragzero_embed using (current_setting(''app.embed_job'', true) = ''on'')',
            name);
    end loop;
end
$$;

grant select, insert, delete on embed_waiting, embed_work to ragzero_ingest;
-- a delete over the API makes the wait moot
grant select, delete on embed_waiting to ragzero_query;

grant select on tenants, collections, spaces to ragzero_embed;
grant update (epoch) on tenants to ragzero_embed;
grant update (documents, chunks) on collections to ragzero_embed;
grant select on documents to ragzero_embed;
grant update (published_generation, status, reason_code, reason, etag, version_id, content_hash, pipeline, media_type,
              bytes, pages, flags, metadata, collection_id, chunks, staged, done_sequencer, lease_until, updated_at,
              timeline) on documents to ragzero_embed;
grant select, insert, delete on facets to ragzero_embed;
-- older generations go away, and their lexemes are counted down
grant select, delete on chunks to ragzero_embed;
grant select on chunk_terms to ragzero_embed;
grant select, update on lexemes to ragzero_embed;
grant select, delete on embed_waiting to ragzero_embed;
grant select, update, delete on embed_work to ragzero_embed;
