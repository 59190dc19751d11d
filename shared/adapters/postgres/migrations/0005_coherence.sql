-- Epochs that were published while Redis could not be told, one row per tenant, until somebody has told it.
create table epoch_outbox (
    tenant_id uuid primary key references tenants (id) on delete cascade,
    epoch bigint not null,
    at timestamptz not null
);
alter table epoch_outbox enable row level security;
alter table epoch_outbox force row level security;
create policy tenant on epoch_outbox using (tenant_id = (select current_tenant()));
grant select, insert, update, delete on epoch_outbox to ragzero_ingest, ragzero_embed, ragzero_query;
