-- After the vectors, for building the graph at once takes a tenth of the time.
create index concurrently {name} on vectors_{space} using hnsw ({indexed})
    with (m = {m}, ef_construction = {ef_construction}) {of}
