module "observability" {
  source            = "../../modules/observability"
  count             = var.alarms ? 1 : 0
  name              = local.prefix
  emails            = var.alarm_emails
  thresholds        = var.thresholds
  queue             = module.queue.name
  api               = local.gateway.metrics
  connection_budget = local.database.connections
  functions = { for name, size in local.functions : name => {
    name        = module.function[name].name
    log_group   = module.function[name].log_group
    connections = size.connections
  } }
  dead_letters = merge(
    { ingest = module.queue.dead_letters.name },
    { for letters in module.reindex_dead_letters : "reindex" => letters.name },
  )
}

module "budget" {
  source      = "../../modules/budget"
  count       = var.monthly_budget_usd == null ? 0 : 1
  name        = local.prefix
  monthly_usd = var.monthly_budget_usd
  tag         = { name = "environment", value = var.environment }
  topic_arn   = module.observability[0].topic_arn
}
