-- What became of deleted documents.

-- One row per document that was deleted last time it was anything; gone when it is something again.
create table deletions (
    document_id uuid primary key references documents (id) on delete cascade,
    tenant_id uuid not null references tenants (id) on delete cascade,
    -- SHA-256 of the key: who knows the key can tell that this was it
    key_hash bytea not null,
    requested_at timestamptz not null default now(),
    epoch bigint,
    coherent boolean not null default false,
    coherent_until timestamptz,
    -- place -> {removed, at}
    removed jsonb not null default '{}',
    -- when the last trace was looked for, and everything found removed
    erased_at timestamptz
);
create index deletions_due on deletions (requested_at) where erased_at is null;
alter table deletions enable row level security;
alter table deletions force row level security;
create policy tenant on deletions using (tenant_id = (select current_tenant()));
create policy sweep on deletions for select to ragzero_reindex using (sweeping());
grant select, insert, update on deletions to ragzero_query, ragzero_ingest;
-- the job removes what is left of a document that was deleted while it waited
grant select, update on deletions to ragzero_embed;
grant select, update, delete on deletions to ragzero_reindex;

-- Documents deleted before there were receipts have their names taken away like all others.
alter table documents no force row level security;
insert into deletions (document_id, tenant_id, key_hash, requested_at)
select id, tenant_id, sha256(convert_to(key, 'UTF8')), updated_at from documents where status = 'deleted';
alter table documents force row level security;
update sweeps set cursor = '' where finished_at is not null;

-- A word that stands in no chunk any more is not kept.
alter table lexemes no force row level security;
delete from lexemes where chunks <= 0;
alter table lexemes force row level security;
grant delete on lexemes to ragzero_embed, ragzero_reindex;

-- The sweep erases what is left of a deleted document, tenant by tenant.
grant select, update (key, timeline, flags, media_type, bytes, pages, pipeline, etag, version_id, content_hash, metadata,
                      reason_code, reason, seen_sequencer, done_sequencer) on documents to ragzero_reindex;
grant select (answer_id, tenant_id, document_id) on answer_sources to ragzero_reindex;
grant select (tenant_id) on answers to ragzero_reindex;
grant select (tenant_id, body, created_at), update (status, headers, body), delete on idempotent_requests to ragzero_reindex;
grant select (message_id, body), update (body) on discarded_letters to ragzero_reindex;
create policy sweep on discarded_letters to ragzero_reindex using (sweeping());
do $$
declare
    name text;
begin
    for name in select 'vectors_' || id from spaces loop
        execute format('grant select on %I to ragzero_reindex', name);
    end loop;
end
$$;

-- Until when an upload that was announced may come.
alter table documents add column upload_until timestamptz;

-- Batches of uploads, and deletes of many documents at once. How far they are is what their documents say.
create table jobs (
    id uuid primary key default gen_random_uuid(),
    tenant_id uuid not null references tenants (id) on delete cascade,
    kind text not null check (kind in ('upload', 'delete')),
    created_at timestamptz not null default now()
);
create index jobs_age on jobs (created_at);
create table job_documents (
    job_id uuid not null references jobs (id) on delete cascade,
    document_id uuid not null references documents (id) on delete cascade,
    tenant_id uuid not null,
    -- of a delete: when it was through with this one
    done_at timestamptz,
    primary key (job_id, document_id)
);
create index job_documents_document on job_documents (document_id);
do $$
declare
    name text;
begin
    foreach name in array array['jobs', 'job_documents'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant_id = (select current_tenant()))', name);
    end loop;
end
$$;
create policy sweep on jobs to ragzero_reindex using (sweeping());
grant select, insert on jobs, job_documents to ragzero_query;
grant update (done_at) on job_documents to ragzero_query;
grant select (id, created_at), delete on jobs to ragzero_reindex;

-- Who wants to be told when a document becomes searchable or fails, and what they have not been told yet.
create table webhooks (
    id uuid primary key default gen_random_uuid(),
    tenant_id uuid not null references tenants (id) on delete cascade,
    url text not null,
    events text[] not null,
    -- what messages are signed with; the API writes it and cannot read it
    secret bytea not null,
    delivered_at timestamptz,
    failed_at timestamptz,
    error text,
    created_at timestamptz not null default now()
);
create index webhooks_tenant on webhooks (tenant_id);
create table webhook_messages (
    id uuid primary key default gen_random_uuid(),
    webhook_id uuid not null references webhooks (id) on delete cascade,
    tenant_id uuid not null,
    document_id uuid not null references documents (id) on delete cascade,
    payload jsonb not null,
    attempts integer not null default 0,
    -- moved on when an attempt begins: who takes one has it until then
    due_at timestamptz not null default now(),
    given_up_at timestamptz,
    created_at timestamptz not null default now()
);
create index webhook_messages_due on webhook_messages (due_at) where given_up_at is null;
create index webhook_messages_webhook on webhook_messages (webhook_id);
create index webhook_messages_document on webhook_messages (document_id);
do $$
declare
    name text;
begin
    foreach name in array array['webhooks', 'webhook_messages'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant_id = (select current_tenant()))', name);
        -- Who delivers does so for all tenants, and says so, transaction by transaction.
        execute format(
            'create policy courier on %I to ragzero_ingest, ragzero_reindex'
            ' using (current_setting(''app.courier'', true) = ''on'')', name);
    end loop;
end
$$;
create policy sweep on webhook_messages to ragzero_reindex using (sweeping());
grant select (id, tenant_id, url, events, delivered_at, failed_at, error, created_at), insert, delete on webhooks to ragzero_query;
grant select (webhook_id, tenant_id, given_up_at) on webhook_messages to ragzero_query;
grant select (id, tenant_id, events) on webhooks to ragzero_embed;
grant insert on webhook_messages to ragzero_embed;
grant select, update (delivered_at, failed_at, error) on webhooks to ragzero_ingest, ragzero_reindex;
grant select, insert, update, delete on webhook_messages to ragzero_ingest, ragzero_reindex;
