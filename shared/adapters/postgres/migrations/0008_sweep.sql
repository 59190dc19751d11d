-- The sweep: compares the bucket with the documents of all tenants, in the order of their keys' bytes, page by page.

-- LastModified of the object when it was last found to be what the document says.
alter table documents add column object_modified timestamptz;
create index documents_sweep on documents (bucket, key collate "C");

create function sweeping() returns boolean
language sql stable parallel safe
return coalesce(current_setting('app.sweep', true) = 'on', false);

-- One row per walk through a bucket. Counts only: nothing of any tenant but how many of its documents are held back.
create table sweeps (
    id bigint generated always as identity primary key,
    bucket text not null,
    -- every key up to the cursor has been compared; listed: to the end
    cursor text not null default '' collate "C",
    listed boolean not null default false,
    -- token is the fencing token, the lease runs on this database's clock
    token bigint not null default 1,
    lease_until timestamptz,
    counts jsonb not null default '{}',
    error text,
    confirmed_at timestamptz,
    confirmed_by text,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    finished_at timestamptz
);
create unique index sweeps_unfinished on sweeps (bucket) where finished_at is null;
grant select on sweeps to ragzero_query;
grant update (confirmed_at, confirmed_by) on sweeps to ragzero_query;
grant select, insert, update, delete on sweeps to ragzero_reindex;

-- Keys whose document is not what the bucket has, and what was done about it. A row goes when a sweep that came to
-- its end has not found it again.
create table sweep_findings (
    bucket text not null,
    key text not null collate "C",
    tenant_id uuid not null references tenants (id) on delete cascade,
    document_id uuid references documents (id) on delete cascade,
    kind text not null check (kind in ('missing', 'changed', 'stuck', 'gone')),
    modified timestamptz,
    -- the newest sweep that found it, and when; the one that holds it back
    sweep_id bigint not null,
    seen_at timestamptz not null,
    held_by bigint,
    found_at timestamptz not null default now(),
    -- the hints sent to ingest so far
    hints integer not null default 0,
    hinted_at timestamptz,
    sequencer text not null default '' collate "C",
    primary key (bucket, key)
);
create index sweep_findings_tenant on sweep_findings (tenant_id);
create index sweep_findings_document on sweep_findings (document_id);

-- Dead letters that somebody gave up on.
create table discarded_letters (
    message_id text primary key,
    body text not null,
    sent_at timestamptz,
    reason text not null check (reason <> ''),
    discarded_by text not null,
    discarded_at timestamptz not null default now()
);

alter table sweep_findings enable row level security;
alter table sweep_findings force row level security;
create policy tenant on sweep_findings using (tenant_id = (select current_tenant()));
alter table discarded_letters enable row level security;
alter table discarded_letters force row level security;
-- A letter is of no tenant before it was understood: only who runs the whole installation sees them.
create policy operator on discarded_letters to ragzero_query
    using ((select is_operator()));
grant select on sweep_findings to ragzero_query;
grant select, insert on discarded_letters to ragzero_query;
-- how far the embedding job is with what waits
grant select on embed_work to ragzero_query;

-- The sweep looks at all tenants; it says so, transaction by transaction.
do $$
declare
    name text;
begin
    foreach name in array array['tenants', 'embed_waiting', 'embed_work', 'chunks', 'epoch_outbox'] loop
        execute format('create policy sweep on %I for select to ragzero_reindex using (sweeping())', name);
    end loop;
    foreach name in array array['documents', 'answers', 'semantic_answers', 'usage_days', 'sweep_findings'] loop
        execute format('create policy sweep on %I to ragzero_reindex using (sweeping())', name);
    end loop;
end
$$;
create policy reindex on chunk_terms to ragzero_reindex using (tenant_id = (select current_tenant()));
grant select (id, epoch, closed_at) on tenants to ragzero_reindex;
grant select, delete on epoch_outbox to ragzero_reindex;
grant select (id, tenant_id, bucket, key, status, etag, bytes, staged, generation, published_generation, lease_until,
              done_sequencer, object_modified, updated_at) on documents to ragzero_reindex;
grant update (object_modified) on documents to ragzero_reindex;
grant select on embed_waiting, embed_work to ragzero_reindex;
grant select, insert, update, delete on sweep_findings to ragzero_reindex;
-- what is left of older generations goes, and their lexemes are counted down
grant select (id, tenant_id, collection_id, document_id, generation), delete on chunks to ragzero_reindex;
grant select on chunk_terms to ragzero_reindex;
grant select, update on lexemes to ragzero_reindex;
grant select (id, created_at), delete on answers to ragzero_reindex;
grant select (id, tenant_id, epoch, created_at), delete on semantic_answers to ragzero_reindex;
grant select (day), delete on usage_days to ragzero_reindex;
grant select (id, at), delete on wakeups to ragzero_reindex;
