-- After the vectors, for building the graph at once takes a tenth of the time.
create index concurrently vectors_{space}_hnsw on vectors_{space} using hnsw (embedding halfvec_cosine_ops)
