output "url" {
  value = aws_api_gateway_stage.this.invoke_url
}

output "id" {
  value = aws_api_gateway_rest_api.this.id
}

output "metrics" {
  description = "Where CloudWatch finds this API, and what it calls failures."
  value = {
    dimensions = { ApiName = aws_api_gateway_rest_api.this.name, Stage = aws_api_gateway_stage.this.stage_name }
    errors     = "5XXError"
  }
}
