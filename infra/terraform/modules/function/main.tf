resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_days
}

resource "aws_iam_role" "this" {
  name = var.name
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "own"
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for each in var.permissions : { Effect = "Allow", Action = each.action, Resource = each.resources }]
  })
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_173:the environment holds names and numbers, no secrets; a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  #checkov:skip=CKV_AWS_272:packages are named by their hash and come from a bucket only the deployer writes
  function_name                  = var.name
  role                           = aws_iam_role.this.arn
  handler                        = var.handler
  runtime                        = var.runtime
  architectures                  = [var.architecture]
  s3_bucket                      = var.package.bucket
  s3_key                         = var.package.key
  source_code_hash               = var.package.sha256
  layers                         = var.layers
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_s
  reserved_concurrent_executions = var.reserved_concurrency
  publish                        = var.provisioned_concurrency > 0

  environment {
    variables = var.environment
  }

  tracing_config {
    mode = "Active"
  }

  dynamic "vpc_config" {
    for_each = var.network[*]
    content {
      subnet_ids                  = vpc_config.value.subnet_ids
      security_group_ids          = vpc_config.value.security_group_ids
      ipv6_allowed_for_dual_stack = true # the way out that costs nothing
    }
  }

  dynamic "dead_letter_config" {
    for_each = var.dead_letters_arn[*]
    content {
      target_arn = dead_letter_config.value
    }
  }

  # Lambda checks what the role may do when the function is made, and would make a log group that keeps all for ever
  depends_on = [aws_iam_role_policy.this, aws_cloudwatch_log_group.this]
}

resource "aws_lambda_alias" "warm" {
  count            = var.provisioned_concurrency > 0 ? 1 : 0
  name             = "warm"
  function_name    = aws_lambda_function.this.function_name
  function_version = aws_lambda_function.this.version
}

resource "aws_lambda_provisioned_concurrency_config" "warm" {
  count                             = var.provisioned_concurrency > 0 ? 1 : 0
  function_name                     = aws_lambda_function.this.function_name
  qualifier                         = aws_lambda_alias.warm[0].name
  provisioned_concurrent_executions = var.provisioned_concurrency
}
