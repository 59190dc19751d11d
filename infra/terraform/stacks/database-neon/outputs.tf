output "project" {
  description = "Neon's id of it."
  value       = neon_project.this.id
}

output "host" {
  description = "Of the pooler."
  value       = neon_project.this.database_host_pooler
}

output "parameters" {
  description = "The SSM parameters made here."
  value       = module.credentials.parameters
}
