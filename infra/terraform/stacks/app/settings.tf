# What each function is told. shared/settings.py reads the environment first and then, below RAGZERO_SSM_PREFIX, the
# parameters of the same names; secrets and what is only known after other deployments are there.
locals {
  reader = { ingest = "ingest", query = "query", query-stream = "query", reindex = "reindex" }

  common = { for name in keys(local.functions) : name => merge(
    {
      RAGZERO_SSM_PREFIX = "/ragzero/${var.environment}/${local.reader[name]}"
      RAGZERO_BUCKET     = module.documents.name
      RAGZERO_LOG_LEVEL  = var.log_level
    },
    name == "reindex" ? {} : { RAGZERO_MODEL_DIR = "/var/task/model" }, # where the package holds it
    var.default_tenant == null ? {} : { RAGZERO_DEFAULT_TENANT = var.default_tenant },
    var.endpoint_url == null ? {} : { AWS_ENDPOINT_URL = var.endpoint_url },
    # the network of the database has no way out but IPv6, which AWS answers at these addresses
    local.database.network == null ? {} : { AWS_USE_DUALSTACK_ENDPOINT = "true" },
  ) }

  query = merge(
    # Lambda takes 6 MB a call, and base64 needs a third more; larger files go straight into the bucket
    { RAGZERO_MAX_UPLOAD_BYTES = tostring(min(var.max_object_mb, 4) * 1024 * 1024) },
    { RAGZERO_ENVIRONMENT = var.environment },
    length(var.web_origins) == 0 ? {} : { RAGZERO_CORS_ORIGINS = join(",", var.web_origins) },
  )

  own = {
    ingest = {
      RAGZERO_MAX_OBJECT_BYTES = tostring(var.max_object_mb * 1024 * 1024)
      # as long as a call may take, so that a document is never worked on twice at once
      RAGZERO_LEASE_SECONDS = tostring(try(local.functions["ingest"].timeout_s, 0))
      RAGZERO_QUEUE_URL     = module.queue.url
    }
    # the pool and the connection for writing make up what the function may hold
    query = merge(local.query, {
      RAGZERO_DATABASE_CONNECTIONS = tostring(try(local.functions["query"].connections - 1, 0))
      RAGZERO_REQUEST_SECONDS      = tostring(try(local.functions["query"].timeout_s - 1, 0)) # an answer of ours, not the gateway's
      RAGZERO_QUEUE_URL            = module.queue.url
      RAGZERO_DEAD_LETTER_URL      = module.queue.dead_letters.url
    })
    query-stream = merge(local.query, {
      RAGZERO_DATABASE_CONNECTIONS = tostring(try(local.functions["query-stream"].connections - 1, 0))
      AWS_LAMBDA_EXEC_WRAPPER      = "/opt/bootstrap"
      AWS_LWA_INVOKE_MODE          = "response_stream"
      AWS_LWA_READINESS_CHECK_PATH = "/healthz"
    })
    reindex = { RAGZERO_QUEUE_URL = module.queue.url, RAGZERO_DEAD_LETTER_URL = module.queue.dead_letters.url }
  }

  environment = { for name in keys(local.functions) : name =>
    merge(local.common[name], local.own[name], try(var.settings[name], {}))
  }

  # The parameters each function reads, where they exist. The database stack makes DATABASE_URL and the pepper, the
  # cache stack UPSTASH_*; the rest is stored by whoever deploys the models.
  embedding = ["RAGZERO_EMBED_KEY", "RAGZERO_EMBED_URL", "RAGZERO_MODAL_KEY", "RAGZERO_MODAL_SECRET"]
  cache     = ["UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"]
  parameters = {
    ingest = concat(local.cache, local.embedding, ["DATABASE_URL"])
    query = concat(local.cache, [
      "DATABASE_URL",
      "RAGZERO_FALLBACK_API_KEY",
      "RAGZERO_FALLBACK_MODEL",
      "RAGZERO_FALLBACK_URL",
      "RAGZERO_GENERATOR_API_KEY",
      "RAGZERO_GENERATOR_MODEL",
      "RAGZERO_GENERATOR_PROXY_KEY",
      "RAGZERO_GENERATOR_PROXY_SECRET",
      "RAGZERO_GENERATOR_URL",
      "RAGZERO_KEY_PEPPER",
    ])
    reindex = concat(local.cache, local.embedding, ["DATABASE_URL"])
  }
}
