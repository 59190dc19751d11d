terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
    neon = {
      source  = "kislerdm/neon"
      version = "0.13.0"
    }
  }
  backend "s3" {} # ../../environments/<env>.tfbackend and the bucket of stacks/state
}

provider "aws" {
  region = var.region
  default_tags {
    tags = merge(var.tags, { project = "ragzero", environment = var.environment, stack = "database-neon" })
  }
}

provider "neon" {} # NEON_API_KEY
