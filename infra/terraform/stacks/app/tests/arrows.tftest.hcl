# Who is called what, and who points at whom.
mock_provider "aws" {
  source = "../../mocks"
}

variables {
  environment        = "test"
  region             = "eu-central-1"
  zero_idle          = true
  package_dir        = "tests/packages"
  openapi_file       = "tests/openapi.json"
  web_origins        = ["https://app.example.com"]
  alarm_emails       = ["team@example.com"]
  monthly_budget_usd = 10
  default_tenant     = "00000000-0000-4000-8000-000000000000"
}

override_resource {
  target = module.documents.aws_s3_bucket.this
  values = { arn = "arn:aws:s3:::documents", id = "documents" }
}

override_resource {
  target = module.packages.aws_s3_bucket.this
  values = { arn = "arn:aws:s3:::packages", id = "packages" }
}

override_resource {
  target = module.queue.aws_sqs_queue.this
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:ingest", url = "https://ingest" }
}

override_resource {
  target = module.queue.module.dead_letters.aws_sqs_queue.this
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:ingest-dead" }
}

override_resource {
  target = module.reindex_dead_letters[0].aws_sqs_queue.this
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:reindex-dead" }
}

override_resource {
  target = module.function["ingest"].aws_lambda_function.this
  values = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:ingest" }
}

override_resource {
  target = module.function["query"].aws_lambda_function.this
  values = {
    arn        = "arn:aws:lambda:eu-central-1:123456789012:function:query"
    invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-central-1:123456789012:function:query/invocations"
  }
}

override_resource {
  target = module.function["query-stream"].aws_lambda_function.this
  values = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:query-stream" }
}

override_resource {
  target = module.function["reindex"].aws_lambda_function.this
  values = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:reindex" }
}

run "a_document_finds_its_way" {
  # bucket -> queue -> mapping -> function, and what fails -> dead letters
  assert {
    condition     = aws_s3_bucket_notification.documents.bucket == "documents" && aws_s3_bucket_notification.documents.queue[0].queue_arn == module.queue.arn
    error_message = "the bucket does not report to the queue"
  }
  assert {
    condition = toset(aws_s3_bucket_notification.documents.queue[0].events) == toset([
      "s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed",
    ])
    error_message = "the bucket does not report everything that changes an object"
  }
  assert {
    condition     = aws_lambda_event_source_mapping.ingest.event_source_arn == module.queue.arn && aws_lambda_event_source_mapping.ingest.function_name == module.function["ingest"].arn
    error_message = "the mapping does not connect queue and function"
  }
  assert {
    condition     = toset(aws_lambda_event_source_mapping.ingest.function_response_types) == toset(["ReportBatchItemFailures"])
    error_message = "one bad message would bring back its whole batch"
  }
  assert {
    condition     = aws_lambda_event_source_mapping.ingest.scaling_config[0].maximum_concurrency == 5
    error_message = "the queue starts more or fewer functions than are reserved"
  }
  assert {
    condition     = module.queue.dead_letters.arn == "arn:aws:sqs:eu-central-1:123456789012:ingest-dead"
    error_message = "the queue has no dead letters"
  }
}

run "names_carry_the_environment" {
  command = plan
  assert {
    condition     = alltrue([for name, function in output.functions : function.name == "ragzero-test-${name}"])
    error_message = "a function's name lacks the environment"
  }
  assert {
    condition     = toset(keys(output.functions)) == toset(["ingest", "query", "query-stream", "reindex"])
    error_message = "a function is missing"
  }
  assert {
    condition     = alltrue(flatten([for names in values(output.parameters) : [for name in names : startswith(name, "/ragzero/test/")]]))
    error_message = "a parameter lies outside the environment"
  }
}

run "the_cheap_gateway_needs_neither_streams_nor_schedules" {
  command = plan
  variables {
    gateway      = "http"
    openapi_file = null
    schedules    = {}
    alarms       = false

    monthly_budget_usd = null
  }
  assert {
    condition     = toset(keys(output.functions)) == toset(["ingest", "query"])
    error_message = "there is a function that nobody calls"
  }
  assert {
    condition     = length(module.gateway_rest) == 0 && length(module.schedules) == 0 && length(module.observability) == 0 && length(module.budget) == 0
    error_message = "there is something that nobody asked for"
  }
}
