-- The vectors of one model can be stored in several ways, each a space of its own.

alter table spaces add column storage text not null default 'float16'
    check (storage in ('float32', 'float16', 'binary'));
alter table spaces drop constraint spaces_fingerprint_key;
alter table spaces add constraint spaces_vectors unique (fingerprint, storage);

-- What is left of closed tenants, the sweep takes away.
do $$
declare
    name text;
begin
    foreach name in array array['answer_feedback', 'evaluations'] loop
        execute format('create policy sweep on %I to ragzero_reindex using (sweeping())', name);
        execute format('grant select (tenant_id), delete on %I to ragzero_reindex', name);
    end loop;
end
$$;
