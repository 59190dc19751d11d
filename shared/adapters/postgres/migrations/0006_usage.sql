-- What each tenant used, by day (UTC). Questions and hits are counted in Redis, which a hit reaches anyway, and are
-- moved here when their day is over; everything that costs money is written here at once.

create table usage_days (
    tenant_id uuid not null references tenants (id) on delete cascade,
    day date not null,
    questions bigint not null default 0,
    hits bigint not null default 0,
    prompt_tokens bigint not null default 0,
    completion_tokens bigint not null default 0,
    gpu_seconds double precision not null default 0,
    cost_usd numeric(14, 6) not null default 0,
    primary key (tenant_id, day)
);
alter table usage_days enable row level security;
alter table usage_days force row level security;
create policy tenant on usage_days using (tenant_id = (select current_tenant()));
grant select, insert, update on usage_days to ragzero_query;
