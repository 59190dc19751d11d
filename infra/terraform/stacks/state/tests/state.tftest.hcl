mock_provider "aws" {
  source = "../../mocks"
}

variables {
  region = "eu-central-1"
}

run "the_bucket_is_put_out" {
  override_resource {
    target = module.states.aws_s3_bucket.this
    values = { arn = "arn:aws:s3:::states", id = "states" }
  }
  assert {
    condition     = output.bucket == "states"
    error_message = "the bucket is not what is put out"
  }
}

run "an_account_that_logs_already" {
  command = plan
  variables {
    api_gateway_logs = false
  }
  assert {
    condition     = length(aws_api_gateway_account.this) == 0
    error_message = "the account's own setting would be replaced"
  }
}
