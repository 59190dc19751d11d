locals {
  # One request at a time in each copy of a function, so one connection for its work; questions need another two, for
  # the answers they write down and the documents they change.
  sizes = {
    ingest       = { memory_mb = 2048, timeout_s = 120, reserved_concurrency = 5, provisioned_concurrency = 0, connections = 1 }
    query        = { memory_mb = 2048, timeout_s = 29, reserved_concurrency = 10, provisioned_concurrency = 0, connections = 3 }
    query-stream = { memory_mb = 2048, timeout_s = 300, reserved_concurrency = 10, provisioned_concurrency = 0, connections = 3 }
    reindex      = { memory_mb = 1024, timeout_s = 900, reserved_concurrency = 1, provisioned_concurrency = 0, connections = 1 }
  }
  wanted = { ingest = true, query = true, query-stream = var.gateway == "rest", reindex = length(var.schedules) > 0 }
  functions = { for name, size in local.sizes : name =>
    merge(size, { for key, value in try(var.functions[name], {}) : key => value if value != null })
    if local.wanted[name]
  }

  handlers = {
    ingest       = "functions.ingest.handler.handler"
    query        = "functions.query.handler.handler"
    query-stream = "run.sh" # starts uvicorn; the adapter turns calls into requests
    reindex      = "functions.reindex.handler.handler"
  }

  # Version 26 of the layer is Lambda Web Adapter 1.0.
  adapter = coalesce(var.adapter_layer_arn, format(
    "arn:%s:lambda:%s:753240598075:layer:%s:26",
    data.aws_partition.current.partition,
    var.region,
    var.architecture == "arm64" ? "LambdaAdapterLayerArm64" : "LambdaAdapterLayerX86",
  ))
}

module "function" {
  source                  = "../../modules/function"
  for_each                = local.functions
  name                    = "${local.prefix}-${each.key}"
  handler                 = local.handlers[each.key]
  runtime                 = var.runtime
  architecture            = var.architecture
  memory_mb               = each.value.memory_mb
  timeout_s               = each.value.timeout_s
  reserved_concurrency    = each.value.reserved_concurrency
  provisioned_concurrency = each.value.provisioned_concurrency
  layers                  = each.key == "query-stream" ? [local.adapter] : []
  environment             = local.environment[each.key]
  permissions             = local.permissions[each.key]
  network                 = local.database.network
  dead_letters_arn        = each.key == "reindex" ? module.reindex_dead_letters[0].arn : null
  log_days                = var.log_days
  package = {
    bucket = module.packages.name
    key    = aws_s3_object.package[each.key].key
    sha256 = filebase64sha256(local.packages[each.key])
  }
}
