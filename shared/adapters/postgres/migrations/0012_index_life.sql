-- The life of the index: spaces that are built beside the active one, what they are worth, and who changed over.

-- built_at: since when its index has stood, and it could be the active one
alter table spaces add column built_at timestamptz;
update spaces set built_at = created_at where state = 'active';

-- Everybody sees them; over the API nobody but an operator says which one is active.
alter table spaces enable row level security;
create policy seen on spaces for select using (true);
create policy operator on spaces for update to ragzero_query using ((select is_operator()));
grant update (state) on spaces to ragzero_query;

-- The embedding job fills a space for all tenants; it says so, transaction by transaction.
create policy job on tenants for select to ragzero_embed
    using (current_setting('app.embed_job', true) = 'on');

-- Publishers, and who hands documents to the embedding job, hold this shared until they commit; who makes another space
-- the active one holds it alone, so that nothing is published into a space that was the active one a moment ago.
create function hold_spaces() returns boolean
language sql volatile
begin atomic
    select pg_advisory_xact_lock_shared(7291002);
    select true;
end;

-- How many chunks that are visible, or are about to be, lack a vector in a space; counting ends at most. Over all tenants:
-- for whoever may list them. Leaves no tenant behind.
create function space_lacks(space integer, most bigint) returns bigint
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
                                   where w.document_id = d.id and w.generation = c.generation))
                   and not exists (select from vectors_%s v where v.chunk_id = c.id)
                 limit %s) as lacking', space, most - lacking) into found_here;
        lacking := lacking + found_here;
        exit when lacking >= most;
    end loop;
    perform set_config('app.tenant_id', '', true);
    return lacking;
end
$$;

-- What a set of questions is answered with in one space. Kept when the space is gone, so its name stands here, too.
create table evaluations (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    name text not null check (name <> ''),
    space_id integer not null,
    space_name text not null,
    -- of the file of questions: only runs of the same questions compare
    questions_digest text not null,
    k integer not null check (k between 1 and 50),
    generated boolean not null,
    -- null until it is finished
    summary jsonb,
    made_by text not null,
    created_at timestamptz not null default now(),
    finished_at timestamptz
);
create index evaluations_listing on evaluations (tenant_id, id desc);

create table evaluation_outcomes (
    evaluation_id bigint not null references evaluations (id) on delete cascade,
    tenant_id uuid not null,
    number integer not null check (number >= 0),
    question text not null,
    outcome jsonb not null,
    primary key (evaluation_id, number)
);
do $$
declare
    name text;
begin
    foreach name in array array['evaluations', 'evaluation_outcomes'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format(
            'create policy tenant on %I using (tenant_id = (select current_tenant()))', name);
    end loop;
end
$$;
grant select, insert, update, delete on evaluations, evaluation_outcomes to ragzero_query;

-- Who made which space the active one, on what grounds. Of no tenant.
create table space_changes (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('promote', 'rollback')),
    from_space integer not null,
    from_name text not null,
    to_space integer not null,
    to_name text not null,
    -- the evaluations that were compared, and what came of it
    evidence jsonb not null default '[]',
    -- why, where there was none, or it spoke against it
    forced_because text,
    changed_by text not null,
    at timestamptz not null default now()
);
alter table space_changes enable row level security;
alter table space_changes force row level security;
create policy operator on space_changes to ragzero_query using ((select is_operator()));
grant select, insert on space_changes to ragzero_query;

-- Collections whose index the canary found to miss too much: how wide they are searched now, or that they are scanned.
create table search_tunings (
    collection_id bigint not null references collections (id) on delete cascade,
    space_id integer not null,
    tenant_id uuid not null,
    ef_search integer check (ef_search between 1 and 1000),
    exact boolean not null,
    recall real not null,
    found_at timestamptz not null default now(),
    primary key (collection_id, space_id)
);
alter table search_tunings enable row level security;
alter table search_tunings force row level security;
create policy tenant on search_tunings using (tenant_id = (select current_tenant()));
grant select on search_tunings to ragzero_query;
grant select, insert, update, delete on search_tunings to ragzero_reindex;
grant select (id, tenant_id, chunks) on collections to ragzero_reindex;
create policy sweep on collections for select to ragzero_reindex using (sweeping());
grant select on spaces to ragzero_reindex;
do $$
declare
    space integer;
begin
    for space in select id from spaces loop
        execute format('grant select on vectors_%s to ragzero_reindex', space);
    end loop;
end
$$;

-- The audit: what was deleted and is still there. Counts only.
create table audits (
    id bigint generated always as identity primary key,
    findings jsonb not null,
    clean boolean not null,
    finished_at timestamptz not null default now()
);
grant select on audits to ragzero_query;
grant select, insert, delete on audits to ragzero_reindex;
grant select (created_at, metadata) on documents to ragzero_reindex;
grant select (document_id, tenant_id) on facets to ragzero_reindex;
create policy sweep on facets for select to ragzero_reindex using (sweeping());
grant select (tenant_id, created_at) on idempotent_requests to ragzero_reindex;
create policy sweep on idempotent_requests for select to ragzero_reindex using (sweeping());
do $$
declare
    space integer;
begin
    for space in select id from spaces loop
        execute format('create policy sweep on vectors_%s for select to ragzero_reindex using (sweeping())', space);
    end loop;
end
$$;
