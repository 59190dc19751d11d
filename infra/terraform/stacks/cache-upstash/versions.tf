terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
    upstash = {
      source  = "upstash/upstash"
      version = "1.5.3"
    }
  }
  backend "s3" {} # ../../environments/<env>.tfbackend and the bucket of stacks/state
}

provider "aws" {
  region = var.region
  default_tags {
    tags = merge(var.tags, { project = "ragzero", environment = var.environment, stack = "cache-upstash" })
  }
}

provider "upstash" {} # UPSTASH_EMAIL, UPSTASH_API_KEY
