locals {
  prefix   = "ragzero-${var.environment}"
  database = "ragzero"
  admin    = "ragzero_admin"
}

module "network" {
  source    = "../../modules/network"
  name      = local.prefix
  zones     = var.zones
  ipv6      = var.ipv6
  nat       = var.nat
  zero_idle = var.zero_idle
}

module "aurora" {
  source               = "../../modules/aurora"
  name                 = local.prefix
  database             = local.database
  admin                = local.admin
  engine_version       = var.engine_version
  network              = module.network
  min_acu              = var.min_acu
  max_acu              = var.max_acu
  pause_after_s        = var.pause_after_s
  proxy                = var.proxy
  connection_budget    = var.connection_budget
  zero_idle            = var.zero_idle
  disposable           = var.disposable
  backup_days          = var.backup_days
  passwords            = module.credentials.passwords
  passwords_generation = module.credentials.generation
}

module "credentials" {
  source      = "../../modules/credentials"
  environment = var.environment
  hosts       = module.aurora.hosts
  database    = local.database
  admin       = local.admin
  generation  = var.passwords_generation
  connections = var.connection_budget
  always_on   = concat(module.aurora.always_on, var.nat ? ["a NAT gateway"] : [])
  network = {
    subnet_ids         = module.network.subnet_ids
    security_group_ids = [module.network.functions_security_group_id]
  }
}
