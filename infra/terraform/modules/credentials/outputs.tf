output "passwords" {
  description = "By role."
  value       = terraform.applying ? local.passwords : local.passwords # Terraform 1.11 forgets in a for that values are ephemeral
  ephemeral   = true
}

output "generation" {
  value = var.generation
}

output "parameters" {
  description = "The names of all parameters made here."
  value = concat(
    [for password in module.password : password.name],
    [for url in aws_ssm_parameter.url : url.name],
    [module.pepper.name, aws_ssm_parameter.admin_url.name, aws_ssm_parameter.contract.name],
  )
}
