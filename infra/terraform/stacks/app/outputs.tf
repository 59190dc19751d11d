output "url" {
  description = "The API."
  value       = local.gateway.url
  precondition {
    condition     = local.functions["query"].timeout_s <= local.longest_buffered_s
    error_message = "The query function may take ${local.functions["query"].timeout_s} s, but a ${var.gateway} gateway gives up after ${local.longest_buffered_s}: nobody would get its answer. Set functions.query.timeout_s to ${local.longest_buffered_s} or less; long answers are for streaming_routes."
  }
  precondition {
    condition     = length(local.unknown_routes) == 0
    error_message = "streaming_routes names ${join(", ", local.unknown_routes)}, which ${coalesce(var.openapi_file, "the OpenAPI document")} does not have."
  }
}

output "bucket" {
  description = "Drop documents here."
  value       = module.documents.name
}

output "queue" {
  description = "Its address, and that of its dead letters."
  value       = { url = module.queue.url, dead_letters_url = module.queue.dead_letters.url }
}

output "functions" {
  description = "By short name: the function and its log group."
  value       = { for name, function in module.function : name => { name = function.name, log_group = function.log_group } }
}

output "parameters" {
  description = "By reader: the SSM parameters (SecureString) it reads where they exist."
  value = { for reader, names in local.parameters : reader => [for name in names : "/ragzero/${var.environment}/${reader}/${name}"]
  if contains([for name in keys(local.functions) : local.reader[name]], reader) }
}

output "dashboard" {
  description = "In CloudWatch; none without alarms."
  value       = one(module.observability[*].dashboard)
}

output "alarms_topic" {
  description = "In SNS; none without alarms."
  value       = one(module.observability[*].topic_arn)
}

output "connections" {
  description = "Database connections that all functions together may hold, of how many; and each copy of a function."
  value = {
    used   = local.connections
    budget = local.database.connections
    each   = { for name, size in local.functions : name => size.connections }
  }
  precondition {
    condition     = local.connections <= local.database.connections
    error_message = "The functions may hold ${local.connections} database connections (reserved concurrency x connections, added up), but the budget is ${local.database.connections}. Lower reserved_concurrency or connections, or get a database that grants more."
  }
}

output "always_on" {
  description = "What costs money while nobody asks."
  value       = local.always_on
  precondition {
    condition     = !var.zero_idle || length(local.always_on) == 0
    error_message = "This environment promises zero idle cost (zero_idle = true), but has ${join("; ", local.always_on)}. Take it away, or set zero_idle = false."
  }
}
