output "name" {
  value = aws_sqs_queue.this.name
}

output "arn" {
  value = aws_sqs_queue.this.arn
}

output "url" {
  value = aws_sqs_queue.this.url
}

output "dead_letters" {
  value = {
    name = module.dead_letters.name
    arn  = module.dead_letters.arn
    url  = module.dead_letters.url
  }
}
