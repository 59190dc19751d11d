locals {
  prefix   = "ragzero-${var.environment}"
  account  = data.aws_caller_identity.current.account_id
  emulated = var.endpoint_url != null

  # What the database stack of this environment left behind; a database of your own says it in variables.
  stored   = try(jsondecode(nonsensitive(data.aws_ssm_parameter.database[0].value)), null)
  database = { connections = try(local.stored.connections, var.connection_budget), always_on = try(local.stored.always_on, []), network = try(local.stored.network, null) }

  # A database that scales to zero pauses after minutes without a connection; more often than hourly it hardly would.
  awake = [for task, expression in var.schedules : "the schedule ${task}, ${expression}, which wakes the database more than once an hour"
  if can(regex("^rate\\([0-9]+ minutes?\\)$", expression)) || !can(regex("^(cron\\([0-9]+ |rate\\()", expression))]

  always_on = concat(
    local.database.always_on,
    [for name, size in local.functions : "provisioned concurrency of ${name}" if size.provisioned_concurrency > 0],
    var.modal_min_containers > 0 ? ["${var.modal_min_containers} warm Modal containers"] : [],
    local.awake,
  )

  connections = sum([for size in values(local.functions) : size.reserved_concurrency * size.connections])
}

data "aws_ssm_parameter" "database" {
  count = var.database == "url" ? 0 : 1
  name  = "/ragzero/${var.environment}/database"
}
