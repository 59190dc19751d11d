-- Who sees and does what: labels of documents and keys, limits, closed tenants, settings of collections. And the operator,
-- who administers tenants and keys through the API without seeing a document.

create function is_operator() returns boolean
language sql stable parallel safe
return coalesce(current_setting('app.operator', true) = 'on', false);

-- Labels. A document's null is everybody of its tenant, {} is nobody but those who see all of them.
alter table documents add column acl text[];
alter table answers add column acl text[];

create function sees_all_labels() returns boolean
language sql stable parallel safe
return coalesce(current_setting('app.acl', true) = '*', false);

create function asked_labels() returns text[]
language sql stable parallel safe
return string_to_array(nullif(current_setting('app.acl', true), ''), ',');

create function labels_of(metadata jsonb) returns text[]
language sql immutable parallel safe
return case when metadata ? 'acl' then array(
    select distinct lower(btrim(part)) from unnest(string_to_array(metadata ->> 'acl', ',')) as part order by 1
) end;

-- whose it is turns out when it is read; until then it is nobody's
alter table documents alter column acl set default '{}';

-- Metadata that was read says whose the document is. A tombstone is shown to nobody who could not see the document.
create function refresh_labels() returns trigger
language plpgsql
as $$
begin
    new.acl := labels_of(new.metadata);
    return new;
end
$$;
create trigger labels_of_new before insert on documents
    for each row when (new.metadata <> '{}') execute function refresh_labels();
create trigger labels_of_changed before update of metadata on documents
    for each row when (new.status <> 'deleted') execute function refresh_labels();

-- As facets without a name, so that a search that few documents are open to finds them by an index.
create or replace function refresh_facets() returns trigger
language plpgsql
as $$
begin
    delete from facets where document_id = new.id;
    insert into facets (document_id, tenant_id, name, value)
    select new.id, new.tenant_id, key, left(value, 1024) from jsonb_each_text(new.metadata) where key <> ''
    union all
    select new.id, new.tenant_id, '', label from unnest(labels_of(new.metadata)) as label where length(label) < 64;
    return null;
end
$$;
create index documents_open on documents (collection_id) where acl is null and published_generation is not null;

-- Every statement of the API obeys, whoever wrote it: what a transaction did not ask for (app.acl) it does not see.
create policy labels on documents as restrictive to ragzero_query
    using (acl is null or (select sees_all_labels()) or acl && (select asked_labels()));

-- How many visible documents and chunks of a collection carry exactly these labels: whether few or many chunks are
-- visible to a caller decides how they are searched.
create table label_sets (
    collection_id bigint not null references collections (id) on delete cascade,
    acl text[] not null,
    tenant_id uuid not null,
    documents bigint not null,
    chunks bigint not null,
    primary key (collection_id, acl)
);
alter table label_sets enable row level security;
alter table label_sets force row level security;
create policy tenant on label_sets using (tenant_id = (select current_tenant()));
grant select, insert, update, delete on label_sets to ragzero_ingest, ragzero_embed, ragzero_query;

-- Sorted, so that two documents published at once never wait for each other in a circle.
create function count_labels() returns trigger
language plpgsql
as $$
begin
    insert into label_sets as l (collection_id, acl, tenant_id, documents, chunks)
    select collection_id, acl, new.tenant_id, sum(sign), sum(sign * chunks)
    from (values (-1, old.collection_id, old.acl, old.chunks, old.published_generation),
                 (1, new.collection_id, new.acl, new.chunks, new.published_generation))
         as changed (sign, collection_id, acl, chunks, published)
    where acl is not null and published is not null
    group by collection_id, acl
    order by collection_id, acl
    on conflict (collection_id, acl) do update
    set documents = l.documents + excluded.documents, chunks = l.chunks + excluded.chunks;
    delete from label_sets where collection_id = old.collection_id and acl = old.acl and documents = 0;
    return null;
end
$$;
create trigger labels_counted after update on documents
    for each row when ((old.acl, old.collection_id, old.published_generation, old.chunks)
                       is distinct from (new.acl, new.collection_id, new.published_generation, new.chunks)
                       and (old.acl is not null or new.acl is not null))
    execute function count_labels();

-- Documents that said something of the kind before it meant anything.
alter table documents no force row level security;
alter table facets no force row level security;
alter table label_sets no force row level security;
update documents set acl = labels_of(metadata) where metadata ? 'acl';
insert into facets (document_id, tenant_id, name, value)
select id, tenant_id, '', label from documents, unnest(labels_of(metadata)) as label where length(label) < 64;
alter table documents force row level security;
alter table facets force row level security;
alter table label_sets force row level security;

-- Tenants and keys. null: what the settings say; for budget_usd: no limit.
alter table tenants
    add column closed_at timestamptz,
    add column rate float8 check (rate > 0),
    add column burst integer check (burst > 0),
    add column streams integer check (streams > 0),
    add column budget_usd float8 check (budget_usd >= 0);
create index tenants_listing on tenants (created_at, id);
alter table api_keys
    add column acl text[],
    add column rate float8 check (rate > 0),
    add column burst integer check (burst > 0);
create index api_keys_listing on api_keys (created_at, id);

-- A caller who presents a key may look up its tenant with it.
create policy presented on tenants for select to ragzero_query
    using (id = (select tenant_id from api_keys where id = nullif(current_setting('app.key_id', true), '')));
create policy operator on tenants to ragzero_query using ((select is_operator()));
create policy operator on api_keys to ragzero_query using ((select is_operator()));
create policy operator on collections for select to ragzero_query using ((select is_operator()));
-- Tenants and keys are made by operators alone, keys changed by nobody else but for the note of their last use.
create policy made_by_operator on tenants as restrictive for insert to ragzero_query
    with check ((select is_operator()));
create policy made_by_operator on api_keys as restrictive for insert to ragzero_query
    with check ((select is_operator()));
create policy changed_by_operator on api_keys as restrictive for update to ragzero_query
    using ((select is_operator()) or id = nullif(current_setting('app.key_id', true), ''));
grant insert on tenants, api_keys to ragzero_query;
grant update (name, closed_at, rate, burst, streams, budget_usd) on tenants to ragzero_query;
grant update (name, expires_at, revoked_at, last_used_at, acl, rate, burst) on api_keys to ragzero_query;

-- Collections. null: what the ingest function does where nothing is said.
alter table collections
    add column chunk_tokens integer check (chunk_tokens between 32 and 512),
    add column overlap_tokens integer check (overlap_tokens >= 0 and overlap_tokens * 2 < chunk_tokens);
grant update (language, chunk_tokens, overlap_tokens), delete on collections to ragzero_query;
grant delete on lexemes to ragzero_query;
