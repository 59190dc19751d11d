output "bucket" {
  description = "For -backend-config=bucket=..."
  value       = module.states.name
}
