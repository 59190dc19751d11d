# ---- shared by all stacks: environments/<env>.tfvars

variable "environment" {
  description = "Part of every name, so that environments in one account never meet."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,14}[a-z0-9]$", var.environment))
    error_message = "environment has 2 to 16 small letters, digits and hyphens, such as dev or pr-123; ${var.environment} has not."
  }
}

variable "region" {
  description = "Where everything runs."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is one of AWS's, such as eu-central-1, not ${var.region}."
  }
}

variable "zero_idle" {
  description = "Promise that nothing costs money while nobody asks; a cache that is paid by the request keeps it."
  type        = bool
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
  validation {
    condition     = length(setintersection(keys(var.tags), ["project", "environment", "stack"])) == 0
    error_message = "The tags project, environment and stack are set already; choose other names."
  }
}

# ---- this stack: environments/<env>.cache-upstash.tfvars

variable "upstash_region" {
  description = "Where the cache lies; null takes the region of everything else, where Upstash is too."
  type        = string
  default     = null
  validation {
    condition = contains([
      "us-east-1", "us-west-1", "us-west-2", "eu-central-1", "eu-west-1", "sa-east-1", "ap-southeast-1", "ap-southeast-2",
    ], coalesce(var.upstash_region, var.region))
    error_message = "Upstash is in us-east-1, us-west-1, us-west-2, eu-central-1, eu-west-1, sa-east-1, ap-southeast-1 and ap-southeast-2; set upstash_region to the nearest."
  }
}
