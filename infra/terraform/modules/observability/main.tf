data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  minutes = 60

  # A system that sleeps reports nothing, which is fine: missing data never alarms.
  simple = merge(
    {
      p95 = {
        says       = "95 % of answers came within ${var.thresholds.p95_ms} ms until now; they no longer do"
        namespace  = "AWS/ApiGateway", metric = "Latency", statistic = "p95"
        dimensions = var.api.dimensions, threshold = var.thresholds.p95_ms, periods = 3
      }
      queue-age = {
        says       = "a document has waited ${var.thresholds.queue_age_s} s and more for its turn"
        namespace  = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum"
        dimensions = { QueueName = var.queue }, threshold = var.thresholds.queue_age_s, periods = 2
      }
    },
    { for name, queue in var.dead_letters : "dead-letters-${name}" => {
      says       = "work was given up; look at ${queue}, mend the cause, redrive"
      namespace  = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum"
      dimensions = { QueueName = queue }, threshold = 0, periods = 1
    } },
    { for name, function in var.functions : "throttles-${name}" => {
      says       = "${function.name} is called more often than its reserved concurrency allows"
      namespace  = "AWS/Lambda", metric = "Throttles", statistic = "Sum"
      dimensions = { FunctionName = function.name }, threshold = var.thresholds.throttles, periods = 2
    } },
    { for name, function in var.functions : "cold-starts-${name}" => {
      says       = "${function.name} started cold more than ${var.thresholds.cold_starts} times in 5 minutes"
      namespace  = local.own, metric = "ColdStarts-${name}", statistic = "Sum"
      dimensions = {}, threshold = var.thresholds.cold_starts, periods = 1
    } },
    { for name, said in local.reported : name => {
      says       = said.says
      namespace  = local.own, metric = name, statistic = "Sum"
      dimensions = {}, threshold = 0, periods = 1
    } },
  )
  percentile = { for name, alarm in local.simple : name => startswith(alarm.statistic, "p") ? alarm.statistic : null }

  # Each running copy of a function may hold so many connections, so copies say what the database sees at most.
  connections = join(" + ", [for name, function in var.functions : "FILL(${replace(name, "-", "_")}, 0) * ${function.connections}"])
  own         = "ragzero/${var.name}"

  # What scheduled tasks find and write into their log.
  reported = { for name, said in {
    deleted-data = { event = "deleted_data_left", says = "the audit found data of deleted documents; its log says where" }
    index-recall = { event = "index_misses_chunks", says = "the canary found an index that misses what is there; that collection is searched wider, or exactly, until then" }
  } : name => said if contains(keys(var.functions), "reindex") }
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:alarms carry names and numbers; CloudWatch cannot publish with SNS's free key, and one's own costs 1 USD a month asleep
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = var.emails
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_log_metric_filter" "cold_starts" {
  for_each       = var.functions
  name           = "cold-starts"
  log_group_name = each.value.log_group
  pattern        = "\"Init Duration\"" # Lambda's own report of a call has it only when the copy was new
  metric_transformation {
    name      = "ColdStarts-${each.key}"
    namespace = local.own
    value     = "1"
  }
}

resource "aws_cloudwatch_log_metric_filter" "reported" {
  for_each       = local.reported
  name           = each.key
  log_group_name = var.functions["reindex"].log_group
  pattern        = "{ $.event = \"${each.value.event}\" }"
  metric_transformation {
    name      = each.key
    namespace = local.own
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "simple" {
  for_each            = local.simple
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = local.percentile[each.key] == null ? each.value.statistic : null
  extended_statistic  = local.percentile[each.key]
  period              = 5 * local.minutes
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "error_rate" {
  alarm_name          = "${var.name}-error-rate"
  alarm_description   = format("more than %.1f %% of requests failed on our side", var.thresholds.error_rate * 100)
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.thresholds.error_rate
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "rate"
    expression  = "failed / requests"
    label       = "share of failed requests"
    return_data = true
  }
  dynamic "metric_query" {
    for_each = { failed = var.api.errors, requests = "Count" }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/ApiGateway"
        metric_name = metric_query.value
        dimensions  = var.api.dimensions
        stat        = "Sum"
        period      = 5 * local.minutes
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "connections" {
  alarm_name          = "${var.name}-connections"
  alarm_description   = format("the functions may hold more than %.0f %% of the %d database connections they share", var.thresholds.connections_share * 100, var.connection_budget)
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.connection_budget * var.thresholds.connections_share
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "connections"
    expression  = local.connections
    label       = "database connections at most"
    return_data = true
  }
  dynamic "metric_query" {
    for_each = var.functions
    content {
      id = replace(metric_query.key, "-", "_")
      metric {
        namespace   = "AWS/Lambda"
        metric_name = "ConcurrentExecutions"
        dimensions  = { FunctionName = metric_query.value.name }
        stat        = "Maximum"
        period      = local.minutes
      }
    }
  }
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = [for number, widget in local.widgets : {
    type       = "metric", width = 8, height = 6, x = (number % 3) * 8, y = floor(number / 3) * 6
    properties = merge({ region = data.aws_region.current.name, period = 5 * local.minutes, view = "timeSeries" }, widget)
  }] })
}

locals {
  api = flatten([for name, value in var.api.dimensions : [name, value]])
  widgets = [
    { title = "answers, ms", metrics = [
      for stat in ["p50", "p95", "p99"] : concat(["AWS/ApiGateway", "Latency"], local.api, [{ stat = stat, label = stat }])
    ] },
    { title = "requests and failures", stat = "Sum", metrics = [
      for metric in ["Count", var.api.errors] : concat(["AWS/ApiGateway", metric], local.api)
    ] },
    { title = "documents waiting", stat = "Maximum", metrics = [
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue],
      ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", var.queue, { yAxis = "right" }],
    ] },
    { title = "dead letters", stat = "Maximum", metrics = [
      for queue in values(var.dead_letters) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue]
    ] },
    { title = "copies running", stat = "Maximum", metrics = [
      for function in values(var.functions) : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", function.name]
    ] },
    { title = "calls, p95 ms", stat = "p95", metrics = [
      for function in values(var.functions) : ["AWS/Lambda", "Duration", "FunctionName", function.name]
    ] },
    { title = "throttled calls", stat = "Sum", metrics = [
      for function in values(var.functions) : ["AWS/Lambda", "Throttles", "FunctionName", function.name]
    ] },
    { title = "failed calls", stat = "Sum", metrics = [
      for function in values(var.functions) : ["AWS/Lambda", "Errors", "FunctionName", function.name]
    ] },
    { title = "cold starts", stat = "Sum", metrics = [
      for name in keys(var.functions) : [local.own, "ColdStarts-${name}"]
    ] },
  ]
}
