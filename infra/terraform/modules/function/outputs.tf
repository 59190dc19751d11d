output "name" {
  value = aws_lambda_function.this.function_name
}

output "arn" {
  description = "What to call: the warm alias where there is one."
  value       = try(aws_lambda_alias.warm[0].arn, aws_lambda_function.this.arn)
}

output "invoke_arn" {
  description = "How API Gateway calls it."
  value       = try(aws_lambda_alias.warm[0].invoke_arn, aws_lambda_function.this.invoke_arn)
}

output "qualifier" {
  description = "The alias to permit calls of; null without one."
  value       = try(aws_lambda_alias.warm[0].name, null)
}

output "log_group" {
  value = aws_cloudwatch_log_group.this.name
}

output "role" {
  value = aws_iam_role.this.name
}
