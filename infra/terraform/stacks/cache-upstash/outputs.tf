output "database" {
  description = "Upstash's id of it."
  value       = upstash_redis_database.this.database_id
}

output "parameters" {
  description = "The SSM parameters made here."
  value       = concat([for each in aws_ssm_parameter.url : each.name], [for each in aws_ssm_parameter.token : each.name])
}
