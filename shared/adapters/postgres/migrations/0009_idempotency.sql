-- What was answered to a request that carries an Idempotency-Key, so that sending it again has no second effect.

create table idempotent_requests (
    tenant_id uuid not null references tenants (id) on delete cascade,
    key text not null,
    -- of the method, the path and the body
    fingerprint bytea not null,
    -- null while it is being answered; the one who answers holds the lease
    status integer,
    headers jsonb,
    body bytea,
    lease_until timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, key)
);
create index idempotent_requests_age on idempotent_requests (tenant_id, created_at);
alter table idempotent_requests enable row level security;
alter table idempotent_requests force row level security;
create policy tenant on idempotent_requests using (tenant_id = (select current_tenant()));
grant select, insert, update, delete on idempotent_requests to ragzero_query;
