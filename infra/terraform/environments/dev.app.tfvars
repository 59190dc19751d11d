disposable = true
functions = {
  ingest       = { reserved_concurrency = 3 }
  query        = { reserved_concurrency = 5 }
  query-stream = { reserved_concurrency = 5 }
}
log_days        = 14
noncurrent_days = 7
alarms          = false # nobody is woken for it
