output "hosts" {
  description = "Where the functions connect, and where migrations do."
  value = {
    pooled = "${try(aws_db_proxy.this[0].endpoint, aws_rds_cluster.this.endpoint)}:${local.port}"
    direct = "${aws_rds_cluster.this.endpoint}:${local.port}"
  }
}

output "cluster" {
  value = aws_rds_cluster.this.cluster_identifier
}

output "always_on" {
  description = "What costs money while nobody asks."
  value = concat(
    var.proxy ? ["RDS Proxy"] : [],
    var.min_acu > 0 ? ["${var.min_acu} ACU of Aurora at least"] : [],
  )
}
