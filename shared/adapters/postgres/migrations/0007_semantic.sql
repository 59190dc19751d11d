-- Answers that a model wrote, found again by a question that means the same. Only within a partition: same tenant,
-- collection, filter, labels, prompt, model and space; and only at the epoch the answer was made at.

create table semantic_answers (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    partition bytea not null,
    epoch bigint not null,
    question text not null,
    -- of any dimension: a partition is small and scanned exactly
    embedding halfvec not null,
    body jsonb not null,
    created_at timestamptz not null default now()
);
create index semantic_answers_partition on semantic_answers (tenant_id, partition, epoch);
alter table semantic_answers enable row level security;
alter table semantic_answers force row level security;
create policy tenant on semantic_answers using (tenant_id = (select current_tenant()));
grant select, insert, delete on semantic_answers to ragzero_query;
