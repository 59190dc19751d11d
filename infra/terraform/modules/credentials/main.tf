locals {
  root      = "/ragzero/${var.environment}"
  roles     = toset(["owner", "ingest", "query", "embed", "reindex"])
  readers   = setsubtract(local.roles, ["owner"]) # the owner is who migrations become; nobody connects as it
  passwords = { for role, password in module.password : role => password.value }
  admin     = var.makes_admin ? module.password["admin"].value : var.admin_password
}

module "password" {
  source     = "../secret"
  for_each   = setunion(local.roles, var.makes_admin ? ["admin"] : [])
  name       = "${local.root}/migrate/RAGZERO_${upper(each.key)}_PASSWORD"
  generation = var.generation
}

# With the database, not the app: the digests of all keys in it were made with this, so a new one would make every key
# unknown.
module "pepper" {
  source     = "../secret"
  name       = "${local.root}/query/RAGZERO_KEY_PEPPER"
  generation = 1
}

resource "aws_ssm_parameter" "admin_url" {
  #checkov:skip=CKV_AWS_337:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  name             = "${local.root}/migrate/DATABASE_ADMIN_URL"
  type             = "SecureString"
  value_wo         = "postgresql://${var.admin}:${urlencode(local.admin)}@${var.hosts.direct}/${var.database}?sslmode=require"
  value_wo_version = var.generation
}

resource "aws_ssm_parameter" "url" {
  #checkov:skip=CKV_AWS_337:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  for_each         = local.readers
  name             = "${local.root}/${each.key}/DATABASE_URL"
  type             = "SecureString"
  value_wo         = "postgresql://ragzero_${each.key}:${module.password[each.key].value}@${var.hosts.pooled}/${var.database}?sslmode=require"
  value_wo_version = var.generation
}

# What the app stack has to know of the database; no secret.
resource "aws_ssm_parameter" "contract" {
  #checkov:skip=CKV2_AWS_34:no secret: a number, and the ids of subnets
  name = "${local.root}/database"
  type = "String"
  value = jsonencode({
    connections = var.connections
    always_on   = var.always_on
    network     = var.network
  })
}
