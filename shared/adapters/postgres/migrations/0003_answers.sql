-- Answers a model wrote or is writing, so that a caller can come back for them; and how long the model took to wake.

create table answers (
    id uuid primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    status text not null default 'running' check (status in ('running', 'done', 'failed')),
    request jsonb not null,
    body jsonb,
    -- while it lies in the future somebody is writing the answer; afterwards whoever asks for it writes it anew
    lease_until timestamptz not null,
    created_at timestamptz not null default now()
);
create index answers_age on answers (tenant_id, created_at);

-- The generation each source had: an answer is shown only while all of them are still the published ones.
create table answer_sources (
    answer_id uuid not null references answers (id) on delete cascade,
    tenant_id uuid not null,
    document_id uuid not null,
    generation integer not null,
    primary key (answer_id, document_id)
);
create index answer_sources_document on answer_sources (document_id);

do $$
declare
    name text;
begin
    foreach name in array array['answers', 'answer_sources'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format(
            'create policy tenant on %I using (tenant_id = (select current_tenant()))', name);
    end loop;
end
$$;
grant select, insert, update, delete on answers, answer_sources to ragzero_query;

-- No tenant's matter: seconds from the first knock to the first token, per model.
create table wakeups (
    id bigint generated always as identity primary key,
    model text not null,
    waited_s real not null,
    at timestamptz not null default now()
);
create index wakeups_recent on wakeups (model, at);
grant select, insert on wakeups to ragzero_query;
