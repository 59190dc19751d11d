output "url" {
  value = aws_apigatewayv2_api.this.api_endpoint
}

output "id" {
  value = aws_apigatewayv2_api.this.id
}

output "metrics" {
  description = "Where CloudWatch finds this API, and what it calls failures."
  value = {
    dimensions = { ApiId = aws_apigatewayv2_api.this.id }
    errors     = "5xx"
  }
}
