output "topic_arn" {
  value = aws_sns_topic.alarms.arn
}

output "dashboard" {
  value = aws_cloudwatch_dashboard.this.dashboard_name
}

output "alarms" {
  value = concat(
    [for alarm in aws_cloudwatch_metric_alarm.simple : alarm.alarm_name],
    [aws_cloudwatch_metric_alarm.error_rate.alarm_name, aws_cloudwatch_metric_alarm.connections.alarm_name],
  )
}
