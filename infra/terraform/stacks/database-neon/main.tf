locals {
  database = "ragzero"
  admin    = "ragzero_admin"
}

resource "neon_project" "this" {
  name                      = "ragzero-${var.environment}"
  org_id                    = var.neon_org_id
  region_id                 = coalesce(var.neon_region, "aws-${var.region}")
  pg_version                = var.pg_version
  history_retention_seconds = var.history_hours * 3600

  branch {
    name          = "main"
    database_name = local.database
    role_name     = local.admin
  }

  default_endpoint_settings {
    autoscaling_limit_min_cu = var.min_cu
    autoscaling_limit_max_cu = var.max_cu
    suspend_timeout_seconds  = var.suspend_after_s
  }
}

module "credentials" {
  source         = "../../modules/credentials"
  environment    = var.environment
  hosts          = { pooled = neon_project.this.database_host_pooler, direct = neon_project.this.database_host }
  database       = neon_project.this.database_name
  admin          = neon_project.this.database_user
  makes_admin    = false
  admin_password = neon_project.this.database_password
  generation     = var.passwords_generation
  connections    = var.connection_budget
  always_on      = var.suspend_after_s == -1 ? ["${var.min_cu} compute units of Neon that never sleep"] : []
}
