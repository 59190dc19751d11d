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
  description = "Promise that nothing costs money while nobody asks; what would break it is refused."
  type        = bool
}

variable "disposable" {
  description = "Whether destroying the environment also destroys the documents in it."
  type        = bool
  default     = false
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

# ---- this stack: environments/<env>.database-aurora.tfvars

variable "min_acu" {
  description = "Aurora capacity units while nobody asks; 0 pauses the database."
  type        = number
  default     = 0
  validation {
    condition     = var.min_acu >= 0
    error_message = "min_acu is ${var.min_acu}; expected 0 or more."
  }
}

variable "max_acu" {
  description = "Aurora capacity units at most; one is 2 GiB of memory."
  type        = number
  default     = 2
  validation {
    condition     = var.max_acu >= 1
    error_message = "max_acu is ${var.max_acu}; expected 1 or more."
  }
}

variable "pause_after_s" {
  description = "After how long without a connection the database pauses."
  type        = number
  default     = 300
  validation {
    condition     = var.pause_after_s >= 300 && var.pause_after_s <= 86400
    error_message = "pause_after_s is ${var.pause_after_s}; Aurora takes 300 to 86400."
  }
}

variable "engine_version" {
  description = "Aurora PostgreSQL; pgvector 0.8 comes with 16.8 and 17.4."
  type        = string
  default     = "17.5"
  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+$", var.engine_version))
    error_message = "engine_version is written as 17.5, not ${var.engine_version}."
  }
}

variable "proxy" {
  description = "RDS Proxy in front: a pooler, and never asleep."
  type        = bool
  default     = false
}

variable "zones" {
  description = "The letters of two availability zones of the region; some regions lack b for some accounts."
  type        = list(string)
  default     = ["a", "b"]
  validation {
    condition     = length(distinct(var.zones)) == 2 && alltrue([for letter in var.zones : can(regex("^[a-f]$", letter))])
    error_message = "zones names two zones by their letters, such as [\"a\", \"b\"]."
  }
}

variable "ipv6" {
  description = "A way out over IPv6, which costs nothing."
  type        = bool
  default     = true
}

variable "nat" {
  description = "A way out over IPv4 for the functions, which costs money day and night."
  type        = bool
  default     = false
}

variable "connection_budget" {
  description = "How many connections the functions together may hold."
  type        = number
  default     = 100
  validation {
    condition     = var.connection_budget >= 1
    error_message = "connection_budget is ${var.connection_budget}; expected at least 1."
  }
}

variable "backup_days" {
  description = "How far back the database can be restored."
  type        = number
  default     = 7
  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "backup_days is ${var.backup_days}; Aurora takes 1 to 35."
  }
}

variable "passwords_generation" {
  description = "Raise it by one to change all passwords; then migrate, and apply the app."
  type        = number
  default     = 1
  validation {
    condition     = var.passwords_generation >= 1
    error_message = "passwords_generation is ${var.passwords_generation}; expected at least 1."
  }
}

variable "emulated" {
  description = "Whether AWS_ENDPOINT_URL is an emulator's."
  type        = bool
  default     = false
}
