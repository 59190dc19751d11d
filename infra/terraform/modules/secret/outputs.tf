output "value" {
  value     = ephemeral.aws_ssm_parameter.stored.value
  ephemeral = true
}

output "name" {
  value = aws_ssm_parameter.this.name
}
