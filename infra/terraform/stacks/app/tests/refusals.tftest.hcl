# Every refusal: values that are wrong on top of an environment that is right. What is expected to fail fails by itself,
# so one run holds as many refusals as concern different things.
mock_provider "aws" {
  source = "../../mocks"
}

variables {
  environment  = "test"
  region       = "eu-central-1"
  zero_idle    = true
  package_dir  = "tests/packages"
  openapi_file = "tests/openapi.json"
}

run "what_is_right_passes" {
  command = plan
  variables {
    visibility_timeout_s = 720 # six time-outs exactly
    database             = "url"
    connection_budget    = 66                              # to the last one
    schedules            = { sweep = "cron(0 * * * ? *)" } # hourly
    settings             = { query = { RAGZERO_GENERATOR_MAX_TOKENS = "512" } }
  }
}

run "what_http_allows_passes" {
  command = plan
  variables {
    gateway      = "http"
    openapi_file = null
    functions    = { query = { timeout_s = 30 } }
  }
}

run "what_may_cost_passes" {
  command = plan
  variables {
    zero_idle            = false
    functions            = { query = { provisioned_concurrency = 1 } }
    modal_min_containers = 1
    schedules            = { sweep = "rate(5 minutes)" }
  }
}

run "values" {
  command = plan
  variables {
    environment          = "a-very-long-environment"
    region               = "europe"
    openapi_file         = null
    adapter_layer_arn    = "arn:aws:lambda:eu-central-1:753240598075:layer:LambdaAdapterLayerArm64" # no version
    functions            = { query-stream = { timeout_s = 901 } }
    settings             = { query = { RAGZERO_GENERATOR_API_KEY = "secret" } }
    web_origins          = ["*"]
    visibility_timeout_s = 43201
    max_receive_count    = 4
    maximum_concurrency  = 1
    schedules            = { vacuum = "rate(1 day)" }
    connection_budget    = 100 # neon says it itself
    alarms               = false
    monthly_budget_usd   = 10 # nobody would hear of it
    endpoint_url         = "http://10.0.0.1:4566"
  }
  expect_failures = [
    var.environment, var.region, var.openapi_file, var.adapter_layer_arn, var.functions, var.settings, var.web_origins,
    var.visibility_timeout_s, var.max_receive_count, var.maximum_concurrency, var.schedules, var.connection_budget,
    var.monthly_budget_usd, var.endpoint_url,
  ]
}

run "other_values" {
  command = plan
  variables {
    gateway             = "grpc"
    functions           = { ingest = { memory_mb = 10241 } }
    settings            = { ingest = { DATABASE_URL = "postgresql://" } }
    maximum_concurrency = 1001
    schedules           = { sweep = "every night" }
    database            = "url" # without a budget
    web_origins         = ["http://app.example.com"]
  }
  expect_failures = [
    var.gateway, var.functions, var.settings, var.maximum_concurrency, var.schedules, var.connection_budget, var.web_origins,
  ]
}

run "too_little_memory" {
  command = plan
  variables {
    functions = { ingest = { memory_mb = 127 } }
  }
  expect_failures = [var.functions]
}

run "a_function_that_never_runs" {
  command = plan
  variables {
    functions = { reindex = { reserved_concurrency = 0 } }
  }
  expect_failures = [var.functions]
}

run "a_question_without_a_connection_to_write_with" {
  command = plan
  variables {
    functions = { query = { connections = 1 } }
  }
  expect_failures = [var.functions]
}

run "a_function_nobody_knows" {
  command = plan
  variables {
    functions = { generate = { memory_mb = 1024 } }
  }
  expect_failures = [var.functions]
}

run "numbers_that_do_not_fit_each_other" {
  command = plan
  variables {
    visibility_timeout_s = 719
    functions = {
      ingest       = { timeout_s = 120 }
      query        = { timeout_s = 30, provisioned_concurrency = 1 }
      query-stream = { reserved_concurrency = 50 }
    }
  }
  expect_failures = [aws_lambda_event_source_mapping.ingest, output.url, output.always_on, output.connections]
}

run "concurrency_beyond_what_is_reserved" {
  command = plan
  variables {
    maximum_concurrency  = 6
    modal_min_containers = 1
    streaming_routes     = ["POST /v2/query"]
    database             = "url"
    connection_budget    = 65 # one too few
  }
  expect_failures = [aws_lambda_event_source_mapping.ingest, output.url, output.always_on, output.connections]
}

run "a_reservation_too_small_for_a_mapping" {
  command = plan
  variables {
    gateway   = "http"
    functions = { ingest = { reserved_concurrency = 1 }, query = { timeout_s = 31 } }
    schedules = { sweep = "rate(5 minutes)" }
  }
  expect_failures = [aws_lambda_event_source_mapping.ingest, output.url, output.always_on]
}

run "what_the_database_stack_says" {
  command = plan
  variables {
    schedules = { sweep = "cron(0 3 * * ? *)", canary = "cron(*/5 * * * ? *)" }
  }
  override_data {
    target = data.aws_ssm_parameter.database[0]
    values = { value = "{\"connections\": 65, \"always_on\": [], \"network\": null}" }
  }
  expect_failures = [output.connections, output.always_on]
}

run "a_database_that_is_always_on" {
  command = plan
  override_data {
    target = data.aws_ssm_parameter.database[0]
    values = { value = "{\"connections\": 100, \"always_on\": [\"RDS Proxy\"], \"network\": null}" }
  }
  expect_failures = [output.always_on]
}
