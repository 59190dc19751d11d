data "aws_region" "current" {}

data "aws_partition" "current" {}

locals {
  lambda = "arn:${data.aws_partition.current.partition}:apigateway:${data.aws_region.current.name}:lambda:path"

  # uri and transfer mode differ, the event is the same
  buffered = {
    type                 = "aws_proxy"
    httpMethod           = "POST"
    uri                  = "${local.lambda}/2015-03-31/functions/${var.buffered.arn}/invocations"
    timeoutInMillis      = var.buffered.timeout_ms
    responseTransferMode = "BUFFERED"
  }
  streaming = {
    type                 = "aws_proxy"
    httpMethod           = "POST"
    uri                  = "${local.lambda}/2021-11-15/functions/${var.streaming.arn}/response-streaming-invocations"
    timeoutInMillis      = var.streaming.timeout_ms
    responseTransferMode = "STREAM"
  }

  # The app's own document is OpenAPI 3.1, which API Gateway does not read; it needs no more than this of it.
  # Known paths get ANY too: otherwise a method they lack would be the gateway's 403 and not the app's 405.
  paths = merge(
    { "/" = [], "/{proxy+}" = [] },
    var.routes,
  )
  body = {
    openapi                                  = "3.0.1"
    info                                     = { title = var.name, version = "1" }
    "x-amazon-apigateway-binary-media-types" = ["*/*"]
    paths = { for path, methods in local.paths : path => merge(
      { for method in methods : method => merge(local.operation[path], {
        "x-amazon-apigateway-integration" = (
          contains(var.streaming_routes, "${upper(method)} ${path}") ? local.streaming : local.buffered
        )
      }) },
      { "x-amazon-apigateway-any-method" = merge(local.operation[path], {
        "x-amazon-apigateway-integration" = local.buffered
      }) },
    ) }
  }
  operation = { for path, _ in local.paths : path => {
    parameters = [for name in flatten(regexall("{([^}+]+)\\+?}", path)) : {
      name = name, in = "path", required = true, schema = { type = "string" }
    }]
    responses = { default = { description = "whatever the app answers" } }
  } }
}

resource "aws_api_gateway_rest_api" "this" {
  name = var.name
  body = jsonencode(local.body)
  endpoint_configuration {
    types = ["REGIONAL"] # streams may be silent for 5 minutes; at the edge for 30 s
  }
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_deployment" "this" {
  rest_api_id = aws_api_gateway_rest_api.this.id
  triggers    = { body = sha256(jsonencode(local.body)) }
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "access" {
  #checkov:skip=CKV_AWS_158:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  #checkov:skip=CKV_AWS_338:how long logs are kept is a variable; production keeps a year
  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log_days
}

resource "aws_api_gateway_stage" "this" {
  #checkov:skip=CKV2_AWS_29:a firewall costs 5 USD a month asleep; the app has limits per key, the stage has throttling
  #checkov:skip=CKV2_AWS_4:errors are logged, see the method settings; more would hold questions
  #checkov:skip=CKV2_AWS_51:Lambda is called with IAM, there is no server to show a certificate to
  #checkov:skip=CKV_AWS_120:answers are cached per tenant by the app; a cache here costs money asleep and knows no tenants
  rest_api_id          = aws_api_gateway_rest_api.this.id
  deployment_id        = aws_api_gateway_deployment.this.id
  stage_name           = var.stage
  xray_tracing_enabled = true

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    # paths may hold names of documents, so the route alone
    format = jsonencode({
      request_id = "$context.requestId"
      time       = "$context.requestTime"
      method     = "$context.httpMethod"
      route      = "$context.resourcePath"
      status     = "$context.status"
      latency_ms = "$context.responseLatency"
      error      = "$context.integration.error"
    })
  }
}

resource "aws_api_gateway_method_settings" "all" {
  #checkov:skip=CKV_AWS_225:answers are cached per tenant by the app; a cache here costs money asleep and knows no tenants
  rest_api_id = aws_api_gateway_rest_api.this.id
  stage_name  = aws_api_gateway_stage.this.stage_name
  method_path = "*/*"
  settings {
    throttling_rate_limit  = var.throttle.rate
    throttling_burst_limit = var.throttle.burst
    metrics_enabled        = false # per-route metrics are priced by the metric; the API's own are free
    logging_level          = "ERROR"
    data_trace_enabled     = false # questions and documents stay out of the logs
  }
}

resource "aws_lambda_permission" "gateway" {
  for_each      = { buffered = var.buffered, streaming = var.streaming }
  statement_id  = "gateway"
  action        = "lambda:InvokeFunction"
  function_name = each.value.name
  qualifier     = each.value.qualifier
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_api_gateway_rest_api.this.execution_arn}/*"
}
