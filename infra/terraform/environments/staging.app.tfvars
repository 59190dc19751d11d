disposable         = true
log_days           = 30
noncurrent_days    = 7
monthly_budget_usd = 20
