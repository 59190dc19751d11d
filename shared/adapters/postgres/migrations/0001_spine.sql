-- Tenants, keys, collections, documents, chunks, spaces. Run as ragzero_owner.
-- Every table carries tenant_id and forces row-level security: a connection that has not said
-- SET LOCAL app.tenant_id sees nothing, the owner included.

create function current_tenant() returns uuid
language sql stable parallel safe
return nullif(current_setting('app.tenant_id', true), '')::uuid;

create table tenants (
    id uuid primary key default gen_random_uuid(),
    name text not null unique check (name <> ''),
    epoch bigint not null default 1,
    created_at timestamptz not null default now()
);

create table api_keys (
    id text primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    name text not null,
    digest bytea not null,
    scopes text[] not null check (scopes <@ array['query', 'ingest', 'admin']),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
create index api_keys_tenant on api_keys (tenant_id);

create table collections (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    name text not null,
    language regconfig not null default 'english',
    documents bigint not null default 0,
    chunks bigint not null default 0,
    created_at timestamptz not null default now(),
    unique (tenant_id, name)
);

-- One row per key of the bucket, for ever; deleted is a status.
create table documents (
    id uuid primary key default gen_random_uuid(),
    tenant_id uuid not null references tenants (id) on delete cascade,
    collection_id bigint not null references collections (id) on delete cascade,
    bucket text not null,
    key text not null,
    status text not null default 'pending'
        check (status in ('pending', 'processing', 'searchable', 'failed', 'deleted')),
    reason_code text,
    reason text,
    -- what the queue said: the newest event seen, and the newest one whose work is done
    seen_sequencer text not null default '' collate "C",
    done_sequencer text not null default '' collate "C",
    -- what the object was when it was last made searchable (or failed)
    etag text,
    version_id text,
    content_hash bytea,
    pipeline text,
    media_type text,
    bytes bigint,
    pages integer,
    metadata jsonb not null default '{}',
    flags text[] not null default '{}',
    -- generation is the newest one begun, published_generation the one queries see
    generation integer not null default 0,
    published_generation integer,
    chunks integer not null default 0,
    -- who works on it: attempt is the fencing token, the lease runs on this database's clock
    attempt bigint not null default 0,
    lease_until timestamptz,
    timeline jsonb not null default '[]',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (bucket, key),
    check (published_generation <= generation)
);
create index documents_listing on documents (tenant_id, created_at, id);
create index documents_collection on documents (collection_id) where published_generation is not null;

-- metadata as rows, so that a filter finds its documents by an index: under row-level security a condition uses
-- an index only if its operator is leakproof, as = on text is, and @> on jsonb is not.
create table facets (
    document_id uuid not null references documents (id) on delete cascade,
    tenant_id uuid not null,
    name text not null,
    value text not null,
    primary key (tenant_id, name, value, document_id)
);
create index facets_document on facets (document_id);

create function refresh_facets() returns trigger
language plpgsql
as $$
begin
    delete from facets where document_id = new.id;
    insert into facets (document_id, tenant_id, name, value)
    select new.id, new.tenant_id, key, left(value, 1024) from jsonb_each_text(new.metadata);
    return null;
end
$$;
create trigger facets_of_new after insert on documents
    for each row when (new.metadata <> '{}') execute function refresh_facets();
create trigger facets_of_changed after update of metadata on documents
    for each row when (new.metadata is distinct from old.metadata) execute function refresh_facets();

-- A timeline with one more entry; the newest fifty are kept.
create function timeline_with(timeline jsonb, status text, detail text) returns jsonb
language sql stable
return (case when jsonb_array_length(timeline) >= 50 then timeline - 0 else timeline end)
    || jsonb_strip_nulls(jsonb_build_array(jsonb_build_object('status', status, 'at', now(), 'detail', detail)));

create table spaces (
    id integer generated always as identity primary key,
    name text not null,
    fingerprint text not null unique,
    model text not null,
    revision text not null,
    dimension integer not null check (dimension between 1 and 4000),
    state text not null default 'building' check (state in ('building', 'active', 'retired')),
    created_at timestamptz not null default now()
);
create unique index spaces_one_active on spaces ((true)) where state = 'active';

create table chunks (
    id bigint generated always as identity primary key,
    tenant_id uuid not null,
    collection_id bigint not null,
    document_id uuid not null references documents (id) on delete cascade,
    generation integer not null,
    ordinal integer not null,
    text text not null,
    page integer,
    headings text[] not null default '{}',
    start_char integer not null,
    end_char integer not null,
    text_hash bytea not null,
    -- BM25 weight per hashed lexeme; an inner product with the question's IDF is the BM25 score
    weights sparsevec not null,
    unique (document_id, generation, ordinal)
);
alter table chunks alter column weights set storage main;

-- The full-text index: lexemes, each prefixed by its collection, so that a posting list never spans collections.
-- A table of its own because @@ is not leakproof: a query's condition on it could not use the index under
-- row-level security. So the condition is part of the policy (see below): a query sets app.terms and sees
-- exactly the rows that hold one of them.
create table chunk_terms (
    chunk_id bigint primary key references chunks (id) on delete cascade,
    tenant_id uuid not null,
    terms tsvector not null
);
-- fastupdate would leave searches to scan a pending list
create index chunk_terms_gin on chunk_terms using gin (terms) with (fastupdate = off);

create function asked_terms() returns tsquery
language sql stable parallel safe
return nullif(current_setting('app.terms', true), '')::tsquery;

-- In how many chunks of the collection a lexeme stands, counted over all stored chunks; feeds IDF.
create table lexemes (
    collection_id bigint not null,
    lexeme text not null collate "C",
    tenant_id uuid not null,
    chunks integer not null,
    primary key (collection_id, lexeme)
) with (fillfactor = 60);

-- (index, weight) of each lexeme of a text. weight is BM25's saturated term frequency with k1 = 0.9,
-- b = 0.4 around a length of 100 lexemes. md5, because a hash that Postgres may change cannot be stored.
create function lexeme_index(lexeme text) returns integer
language sql immutable parallel safe
return ('x' || substr(md5(lexeme), 1, 7))::bit(28)::integer + 1;

create function term_vector(collection bigint, words tsvector) returns tsvector
language sql immutable parallel safe
return array_to_tsvector(array(select collection || ':' || lexeme from unnest(words)));

create function weight_vector(words tsvector) returns sparsevec
language sql immutable parallel safe
return (
    select ('{' || coalesce(string_agg(index || ':' || weight, ','), '') || '}/268435456')::sparsevec
    from (
        select lexeme_index(lexeme) as index,
               sum(1.9 * tf / (tf + 0.9 * (0.6 + 0.4 * length / 100.0)))::real as weight
        from (
            select lexeme, cardinality(positions) as tf, sum(cardinality(positions)) over () as length
            from unnest(words)
        ) as counted
        group by 1
    ) as weighed
);

do $$
declare
    name text;
begin
    foreach name in array array['api_keys', 'collections', 'documents', 'facets', 'chunks', 'lexemes'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format(
            'create policy tenant on %I using (tenant_id = (select current_tenant()))', name);
    end loop;
end
$$;
alter table chunk_terms enable row level security;
alter table chunk_terms force row level security;
create policy tenant on chunk_terms to ragzero_owner, ragzero_ingest, ragzero_embed
    using (tenant_id = (select current_tenant()));
create policy asked on chunk_terms for select to ragzero_query
    using (tenant_id = (select current_tenant()) and terms @@ (select asked_terms()));
alter table tenants enable row level security;
alter table tenants force row level security;
create policy tenant on tenants using (id = (select current_tenant()));
-- A caller who presents a key may look up exactly that key, before a tenant is known.
create policy presented on api_keys for select
    using (id = nullif(current_setting('app.key_id', true), ''));

grant select on tenants, collections, documents, facets, chunks, chunk_terms, lexemes, spaces, api_keys to ragzero_query;
-- uploads register a document, deletes leave a tombstone
grant insert on documents, collections to ragzero_query;
grant update on documents to ragzero_query;
grant insert, delete on facets to ragzero_query;
grant update (epoch) on tenants to ragzero_query;
grant update (documents, chunks) on collections to ragzero_query;
grant select on tenants, spaces to ragzero_ingest;
grant update (epoch) on tenants to ragzero_ingest;
grant select, insert, update on collections, documents to ragzero_ingest;
grant select, insert, update, delete on facets, chunks, chunk_terms, lexemes to ragzero_ingest;
