locals {
  openapi = jsondecode(var.gateway == "rest" ? file(var.openapi_file) : jsonencode({ paths = {} }))
  routes = { for path, item in local.openapi.paths : path => [
    for method in keys(item) : method if contains(["get", "put", "post", "delete", "patch", "head", "options"], method)
  ] }
  unknown_routes = var.gateway != "rest" ? [] : [for route in var.streaming_routes : route
    if !contains(flatten([for path, methods in local.routes : [for method in methods : "${upper(method)} ${path}"]]), route)
  ]
  longest_buffered_s = var.gateway == "rest" ? 29 : 30
}

module "gateway_http" {
  source   = "../../modules/gateway_http"
  count    = var.gateway == "http" ? 1 : 0
  name     = local.prefix
  throttle = var.throttle
  log_days = var.log_days
  function = module.function["query"]
}

module "gateway_rest" {
  source           = "../../modules/gateway_rest"
  count            = var.gateway == "rest" ? 1 : 0
  name             = local.prefix
  routes           = local.routes
  streaming_routes = var.streaming_routes
  throttle         = var.throttle
  log_days         = var.log_days
  buffered         = merge(module.function["query"], { timeout_ms = min(29, local.functions["query"].timeout_s) * 1000 })
  streaming        = merge(module.function["query-stream"], { timeout_ms = local.functions["query-stream"].timeout_s * 1000 })
}

locals {
  gateway = one(concat(module.gateway_http, module.gateway_rest))
}
