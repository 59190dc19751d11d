-- The vectors of one embedding space: a table of their own, so that a space is dropped in no time and
-- its index has one dimension. {space} and {dimension} are integers of ours, {column} follows from its storage.
create table vectors_{space} (
    chunk_id bigint primary key references chunks (id) on delete cascade,
    tenant_id uuid not null,
    collection_id bigint not null,
    document_id uuid not null,
    generation integer not null,
    text_hash bytea not null,
    embedding {column}({dimension}) not null
);
create index vectors_{space}_reuse on vectors_{space} (tenant_id, text_hash);
create index vectors_{space}_document on vectors_{space} (document_id, generation);
alter table vectors_{space} enable row level security;
alter table vectors_{space} force row level security;
create policy tenant on vectors_{space} using (tenant_id = (select current_tenant()));
grant select on vectors_{space} to ragzero_query, ragzero_reindex;
grant select, insert, delete on vectors_{space} to ragzero_ingest, ragzero_embed;
create policy sweep on vectors_{space} for select to ragzero_reindex using (sweeping());
