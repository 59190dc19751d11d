functions = {
  ingest       = { reserved_concurrency = 10 }
  query        = { reserved_concurrency = 40 }
  query-stream = { reserved_concurrency = 40 }
}
log_days           = 365
noncurrent_days    = 90
monthly_budget_usd = 100
