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

  # an emulator has no accounts to ask, and no host name for each bucket
  s3_use_path_style           = local.emulated
  skip_credentials_validation = local.emulated
  skip_metadata_api_check     = local.emulated

  default_tags {
    tags = merge(var.tags, { project = "ragzero", environment = var.environment, stack = "app" })
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}
