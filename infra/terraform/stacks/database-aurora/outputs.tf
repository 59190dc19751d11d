output "host" {
  description = "The cluster's own address, for migrations from inside its network."
  value       = module.aurora.hosts.direct
}

output "cluster" {
  description = "Its identifier."
  value       = module.aurora.cluster
}

output "parameters" {
  description = "The SSM parameters made here."
  value       = module.credentials.parameters
}
