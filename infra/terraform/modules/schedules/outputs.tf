output "group" {
  value = aws_scheduler_schedule_group.this.name
}
