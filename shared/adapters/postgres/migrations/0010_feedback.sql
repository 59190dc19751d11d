-- What people thought of answers, for golden sets. Neither the answer's text nor its sources are kept here: what a
-- document said goes away with the document.

create table answer_feedback (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    answer_id uuid not null,
    key_id text not null,
    question text not null,
    rating text not null check (rating in ('good', 'bad')),
    comment text,
    -- what the answer should have been, in the words of the one who asked
    expected text,
    created_at timestamptz not null default now(),
    unique (tenant_id, answer_id, key_id)
);
create index answer_feedback_age on answer_feedback (tenant_id, created_at, id);
alter table answer_feedback enable row level security;
alter table answer_feedback force row level security;
create policy tenant on answer_feedback using (tenant_id = (select current_tenant()));
grant select, insert, update, delete on answer_feedback to ragzero_query;
