terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
  backend "s3" {} # ../../environments/<env>.tfbackend and the bucket of stacks/state
}

provider "aws" {
  region = var.region

  skip_credentials_validation = var.emulated
  skip_metadata_api_check     = var.emulated

  default_tags {
    tags = merge(var.tags, { project = "ragzero", environment = var.environment, stack = "database-aurora" })
  }
}
