data "aws_caller_identity" "current" {}

module "states" {
  source          = "../../modules/bucket"
  name            = "ragzero-state-${data.aws_caller_identity.current.account_id}"
  disposable      = false
  noncurrent_days = 90
}

# REST APIs write access logs with this role of the account, or refuse to be made.
resource "aws_iam_role" "api_gateway_logs" {
  count = var.api_gateway_logs ? 1 : 0
  name  = "ragzero-api-gateway-logs"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "apigateway.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "api_gateway_logs" {
  count      = var.api_gateway_logs ? 1 : 0
  role       = aws_iam_role.api_gateway_logs[0].name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
}

resource "aws_api_gateway_account" "this" {
  count               = var.api_gateway_logs ? 1 : 0
  cloudwatch_role_arn = aws_iam_role.api_gateway_logs[0].arn
  depends_on          = [aws_iam_role_policy_attachment.api_gateway_logs]
}
