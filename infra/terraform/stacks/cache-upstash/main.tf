resource "upstash_redis_database" "this" {
  database_name  = "ragzero-${var.environment}"
  region         = "global" # the kind they still sell; with no read_regions it lies in one place
  primary_region = coalesce(var.upstash_region, var.region)
  tls            = true
  eviction       = true # a cache that is full forgets; the default refuses to write
  auto_scale     = false
}

locals {
  readers = toset(["ingest", "query", "embed", "reindex"])
}

resource "aws_ssm_parameter" "url" {
  #checkov:skip=CKV2_AWS_34:no secret: an address, which nobody gets into without the token
  for_each = local.readers
  name     = "/ragzero/${var.environment}/${each.key}/UPSTASH_REDIS_REST_URL"
  type     = "String"
  value    = "https://${upstash_redis_database.this.endpoint}"
}

# The provider has written the token into the state already, so it may follow its changes from there.
resource "aws_ssm_parameter" "token" {
  #checkov:skip=CKV_AWS_337:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  for_each = local.readers
  name     = "/ragzero/${var.environment}/${each.key}/UPSTASH_REDIS_REST_TOKEN"
  type     = "SecureString"
  value    = upstash_redis_database.this.rest_token
}
