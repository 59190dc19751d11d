# Every refusal, where it is made: mocks know no ephemeral values, so the stack as a whole is tried on a server instead.
mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name              = "ragzero-test"
  zero_idle         = true
  database          = "ragzero"
  admin             = "ragzero_admin"
  connection_budget = 100
  disposable        = true
  passwords = {
    admin = "admin-password", ingest = "ingest-password", query = "query-password", embed = "embed-password", reindex = "reindex-password"
  }
  passwords_generation = 1
  network = {
    vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], functions_security_group_id = "sg-1"
  }
}

run "a_database_that_pauses" {
  module {
    source = "../../modules/aurora"
  }
  variables {
    connection_budget = 368
  }
  assert {
    condition     = aws_rds_cluster.this.serverlessv2_scaling_configuration[0].min_capacity == 0 && aws_rds_cluster.this.serverlessv2_scaling_configuration[0].seconds_until_auto_pause == 300
    error_message = "the database never pauses"
  }
  assert {
    condition     = length(aws_db_proxy.this) == 0 && length(output.always_on) == 0
    error_message = "something is always on"
  }
  assert {
    condition     = aws_rds_cluster.this.storage_encrypted && !aws_rds_cluster_instance.this.publicly_accessible
    error_message = "the database is open"
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.functions.referenced_security_group_id == "sg-1" && aws_vpc_security_group_ingress_rule.functions.cidr_ipv4 == null
    error_message = "somebody else than the functions may connect"
  }
}

run "a_proxy_with_what_it_needs" {
  module {
    source = "../../modules/aurora"
  }
  variables {
    zero_idle  = false
    proxy      = true
    min_acu    = 0.5
    disposable = false
  }
  assert {
    condition     = length(output.always_on) == 2
    error_message = "the proxy or the capacity does not count as always on"
  }
  assert {
    condition     = toset(keys(aws_secretsmanager_secret.role)) == toset(["ingest", "query", "embed", "reindex"]) && aws_db_proxy.this[0].require_tls
    error_message = "the proxy lacks a role, or TLS"
  }
  assert {
    condition     = aws_rds_cluster.this.deletion_protection && !aws_rds_cluster.this.skip_final_snapshot
    error_message = "data that is not disposable could be destroyed"
  }
}

run "a_proxy_before_a_database_that_pauses" {
  command = plan
  module {
    source = "../../modules/aurora"
  }
  variables {
    zero_idle = false
    proxy     = true
    min_acu   = 0
  }
  expect_failures = [var.proxy]
}

run "a_proxy_where_nothing_may_be_always_on" {
  command = plan
  module {
    source = "../../modules/aurora"
  }
  variables {
    proxy   = true
    min_acu = 0.5
  }
  expect_failures = [var.zero_idle]
}

run "capacity_where_nothing_may_be_always_on" {
  command = plan
  module {
    source = "../../modules/aurora"
  }
  variables {
    min_acu = 0.5
  }
  expect_failures = [var.zero_idle]
}

run "values" {
  command = plan
  module {
    source = "../../modules/aurora"
  }
  variables {
    zero_idle      = false
    min_acu        = 3
    max_acu        = 2
    pause_after_s  = 299
    engine_version = "16.4"
    backup_days    = 36
  }
  expect_failures = [var.min_acu, var.pause_after_s, var.engine_version, var.backup_days]
}

run "more_connections_than_the_cluster_grants" {
  command = plan
  module {
    source = "../../modules/aurora"
  }
  variables {
    connection_budget = 369 # 2 ACU grant 378, ten of them for people
  }
  expect_failures = [var.connection_budget]
}

run "a_network_that_costs_nothing" {
  module {
    source = "../../modules/network"
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_eip.nat) == 0 && length(aws_egress_only_internet_gateway.this) == 1
    error_message = "the way out costs money, or there is none"
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.map_public_ip_on_launch != true])
    error_message = "a subnet is public"
  }
}

run "a_way_out_over_ipv4" {
  module {
    source = "../../modules/network"
  }
  variables {
    zero_idle = false
    nat       = true
  }
  assert {
    condition     = aws_route.nat[0].nat_gateway_id == aws_nat_gateway.this[0].id && aws_nat_gateway.this[0].subnet_id == aws_subnet.public[0].id
    error_message = "the way out leads nowhere"
  }
}

run "a_nat_gateway_where_nothing_may_be_always_on" {
  command = plan
  module {
    source = "../../modules/network"
  }
  variables {
    nat = true
  }
  expect_failures = [var.zero_idle]
}

run "public_addresses_for_a_private_network" {
  command = plan
  module {
    source = "../../modules/network"
  }
  variables {
    cidr = "8.8.0.0/20"
  }
  expect_failures = [var.cidr]
}
