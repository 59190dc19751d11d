data "aws_caller_identity" "current" {}

resource "aws_scheduler_schedule_group" "this" {
  name = var.name
}

resource "aws_iam_role" "this" {
  name = var.name
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "own"
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "lambda:InvokeFunction", Resource = var.function_arn },
      { Effect = "Allow", Action = "sqs:SendMessage", Resource = var.dead_letters_arn },
    ]
  })
}

resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297:what is encrypted is the name of a task; a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  for_each            = var.schedules
  name                = each.key
  group_name          = aws_scheduler_schedule_group.this.name
  schedule_expression = each.value

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = var.function_arn
    role_arn = aws_iam_role.this.arn
    input    = jsonencode({ task = each.key })
    retry_policy {
      maximum_event_age_in_seconds = 3600 # the next turn comes anyway
      maximum_retry_attempts       = 5
    }
    dead_letter_config {
      arn = var.dead_letters_arn
    }
  }
}
