# Nobody waits for a scheduled call, so what fails goes here: calls that could not be made, and calls that failed.
module "reindex_dead_letters" {
  source = "../../modules/dead_letters"
  count  = local.wanted["reindex"] ? 1 : 0
  name   = "${local.prefix}-reindex-dead"
}

module "schedules" {
  source           = "../../modules/schedules"
  count            = local.wanted["reindex"] ? 1 : 0
  name             = local.prefix
  schedules        = var.schedules
  function_arn     = module.function["reindex"].arn
  dead_letters_arn = module.reindex_dead_letters[0].arn
}
