locals {
  port  = 5432
  roles = toset(var.proxy ? ["ingest", "query", "embed", "reindex"] : [])
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.network.subnet_ids
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "Who may connect to the database"
  vpc_id      = var.network.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "functions" {
  security_group_id            = aws_security_group.database.id
  description                  = "the functions"
  referenced_security_group_id = var.network.functions_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "to_database" {
  security_group_id            = var.network.functions_security_group_id
  description                  = "the database"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_rds_cluster_parameter_group" "this" {
  name   = var.name
  family = "aurora-postgresql${split(".", var.engine_version)[0]}"
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # ms; statements carry no user text, values are bound
  }
}

resource "aws_cloudwatch_log_group" "postgresql" {
  #checkov:skip=CKV_AWS_158:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  #checkov:skip=CKV_AWS_338:slow statements of a month are enough to find what is slow
  name              = "/aws/rds/cluster/${var.name}/postgresql" # RDS's own name for it
  retention_in_days = 30
}

resource "aws_rds_cluster" "this" {
  #checkov:skip=CKV_AWS_139:protected unless the environment is disposable, which says so
  #checkov:skip=CKV_AWS_162:roles have passwords in SSM, as with every other database this runs on
  #checkov:skip=CKV_AWS_327:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  #checkov:skip=CKV2_AWS_8:Aurora's own backups go back as far as backup_days says
  #checkov:skip=CKV2_AWS_27:logging every statement would put documents and questions into the logs; slow ones are logged
  cluster_identifier              = var.name
  engine                          = "aurora-postgresql"
  engine_mode                     = "provisioned"
  engine_version                  = var.engine_version
  database_name                   = var.database
  port                            = local.port
  master_username                 = var.admin
  master_password_wo              = var.passwords["admin"]
  master_password_wo_version      = var.passwords_generation
  db_subnet_group_name            = aws_db_subnet_group.this.name
  vpc_security_group_ids          = [aws_security_group.database.id]
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.this.name
  storage_encrypted               = true
  backup_retention_period         = var.backup_days
  copy_tags_to_snapshot           = true
  deletion_protection             = !var.disposable
  skip_final_snapshot             = var.disposable
  final_snapshot_identifier       = var.disposable ? null : "${var.name}-last"
  enabled_cloudwatch_logs_exports = ["postgresql"]

  serverlessv2_scaling_configuration {
    min_capacity             = var.min_acu
    max_capacity             = var.max_acu
    seconds_until_auto_pause = var.min_acu == 0 ? var.pause_after_s : null
  }

  depends_on = [aws_cloudwatch_log_group.postgresql]
}

resource "aws_rds_cluster_instance" "this" {
  #checkov:skip=CKV_AWS_118:enhanced monitoring writes logs while nobody asks
  #checkov:skip=CKV_AWS_353:slow statements are logged; Performance Insights is no reason to keep a database awake
  identifier                 = "${var.name}-1"
  cluster_identifier         = aws_rds_cluster.this.id
  instance_class             = "db.serverless"
  engine                     = aws_rds_cluster.this.engine
  engine_version             = aws_rds_cluster.this.engine_version
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
}

# ---- the proxy, which knows each role's password from Secrets Manager

resource "aws_secretsmanager_secret" "role" {
  #checkov:skip=CKV_AWS_149:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  #checkov:skip=CKV2_AWS_57:passwords change with passwords_generation, in SSM and the database too
  for_each                = local.roles
  name                    = "${var.name}-${each.key}"
  recovery_window_in_days = var.disposable ? 0 : 7
}

resource "aws_secretsmanager_secret_version" "role" {
  for_each                 = local.roles
  secret_id                = aws_secretsmanager_secret.role[each.key].id
  secret_string_wo         = jsonencode({ username = "ragzero_${each.key}", password = var.passwords[each.key] })
  secret_string_wo_version = var.passwords_generation
}

resource "aws_iam_role" "proxy" {
  count = var.proxy ? 1 : 0
  name  = "${var.name}-proxy"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "proxy" {
  count = var.proxy ? 1 : 0
  name  = "own"
  role  = aws_iam_role.proxy[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "secretsmanager:GetSecretValue"
      Resource = [for secret in aws_secretsmanager_secret.role : secret.arn]
    }]
  })
}

resource "aws_vpc_security_group_ingress_rule" "proxy" {
  count                        = var.proxy ? 1 : 0
  security_group_id            = aws_security_group.database.id
  description                  = "the proxy, which is in this group too"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "proxy" {
  count                        = var.proxy ? 1 : 0
  security_group_id            = aws_security_group.database.id
  description                  = "from the proxy to the database"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_db_proxy" "this" {
  count                  = var.proxy ? 1 : 0
  name                   = var.name
  engine_family          = "POSTGRESQL"
  role_arn               = aws_iam_role.proxy[0].arn
  require_tls            = true
  idle_client_timeout    = 300
  vpc_subnet_ids         = var.network.subnet_ids
  vpc_security_group_ids = [aws_security_group.database.id]

  dynamic "auth" {
    for_each = aws_secretsmanager_secret.role
    content {
      auth_scheme = "SECRETS"
      iam_auth    = "DISABLED"
      secret_arn  = auth.value.arn
    }
  }

  depends_on = [aws_iam_role_policy.proxy, aws_secretsmanager_secret_version.role]
}

resource "aws_db_proxy_default_target_group" "this" {
  count         = var.proxy ? 1 : 0
  db_proxy_name = aws_db_proxy.this[0].name
  connection_pool_config {
    max_connections_percent   = 90 # the rest is for migrations and people
    connection_borrow_timeout = 5
  }
}

resource "aws_db_proxy_target" "this" {
  count                 = var.proxy ? 1 : 0
  db_proxy_name         = aws_db_proxy.this[0].name
  target_group_name     = aws_db_proxy_default_target_group.this[0].name
  db_cluster_identifier = aws_rds_cluster.this.cluster_identifier
}
