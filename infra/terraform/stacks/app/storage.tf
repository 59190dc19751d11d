module "documents" {
  source          = "../../modules/bucket"
  name            = "${local.prefix}-documents-${local.account}"
  disposable      = var.disposable
  noncurrent_days = var.noncurrent_days
  upload_origins  = concat([regex("^https?://[^/]+", local.gateway.url)], var.web_origins)
}

module "queue" {
  source               = "../../modules/queue"
  name                 = "${local.prefix}-ingest"
  visibility_timeout_s = local.visibility_timeout_s
  max_receive_count    = var.max_receive_count
  sender_bucket_arn    = module.documents.arn
}

resource "aws_s3_bucket_notification" "documents" {
  bucket = module.documents.name
  queue {
    id        = "ingest"
    queue_arn = module.queue.arn
    events = [
      "s3:ObjectCreated:*",
      "s3:ObjectRemoved:*",
      "s3:LifecycleExpiration:*", # a rule of the bucket deletes without an ObjectRemoved
      "s3:ObjectRestore:Completed",
    ]
  }
}

locals {
  visibility_timeout_s = coalesce(var.visibility_timeout_s, 6 * local.functions["ingest"].timeout_s)
  maximum_concurrency  = coalesce(var.maximum_concurrency, local.functions["ingest"].reserved_concurrency)
}

resource "aws_lambda_event_source_mapping" "ingest" {
  event_source_arn        = module.queue.arn
  function_name           = module.function["ingest"].arn
  batch_size              = var.batch_size
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = local.maximum_concurrency
  }

  lifecycle {
    precondition {
      condition     = local.visibility_timeout_s >= 6 * local.functions["ingest"].timeout_s
      error_message = "visibility_timeout_s is ${local.visibility_timeout_s}, less than 6 x the ingest function's time-out (${local.functions["ingest"].timeout_s} s), so messages would come back while they are worked on. Set ${6 * local.functions["ingest"].timeout_s} or more, or leave it out."
    }
    precondition {
      condition     = local.maximum_concurrency >= 2 && local.maximum_concurrency <= 1000
      error_message = "The queue would start ${local.maximum_concurrency} ingest functions at once; an event source mapping takes 2 to 1000. Reserve at least 2 for ingest, or set maximum_concurrency."
    }
    precondition {
      condition     = local.maximum_concurrency <= local.functions["ingest"].reserved_concurrency
      error_message = "maximum_concurrency is ${local.maximum_concurrency}, more than the ${local.functions["ingest"].reserved_concurrency} reserved for ingest: the rest would be throttled into the dead-letter queue. Lower the one or reserve more."
    }
  }
}

# Packages go through a bucket of their own: Lambda takes at most 50 MB otherwise, and the model alone is half of that.
module "packages" {
  source          = "../../modules/bucket"
  name            = "${local.prefix}-packages-${local.account}"
  disposable      = true
  noncurrent_days = 1
}

resource "aws_s3_object" "package" {
  for_each = local.functions
  bucket   = module.packages.name
  key      = "${each.key}/${filesha256(local.packages[each.key])}.zip"
  source   = local.packages[each.key]
  lifecycle {
    create_before_destroy = true # the function points at the old one until it is changed
  }
}

locals {
  built    = "${path.root}/../../../../.local/build/${var.architecture}"
  packages = { for name in keys(local.functions) : name => "${coalesce(var.package_dir, local.built)}/${name}.zip" }
}
