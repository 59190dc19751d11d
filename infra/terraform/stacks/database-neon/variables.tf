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

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
  validation {
    condition     = length(setintersection(keys(var.tags), ["project", "environment", "stack"])) == 0
    error_message = "The tags project, environment and stack are set already; choose other names."
  }
}

# ---- this stack: environments/<env>.database-neon.tfvars

variable "neon_region" {
  description = "Neon's name of the region; null takes the one of AWS."
  type        = string
  default     = null
  validation {
    condition     = var.neon_region == null || can(regex("^(aws|azure)-", var.neon_region))
    error_message = "neon_region is one of Neon's, such as aws-eu-central-1."
  }
}

variable "neon_org_id" {
  description = "The organisation that pays; null for a personal account."
  type        = string
  default     = null
  validation {
    condition     = var.neon_org_id == null || can(regex("^org-", var.neon_org_id))
    error_message = "neon_org_id begins with org-."
  }
}

variable "pg_version" {
  description = "PostgreSQL."
  type        = number
  default     = 17
  validation {
    condition     = contains([16, 17, 18], var.pg_version)
    error_message = "pg_version is 16, 17 or 18, not ${var.pg_version}."
  }
}

variable "min_cu" {
  description = "Compute units while awake; one is 4 GiB of memory."
  type        = number
  default     = 0.25
  validation {
    condition     = var.min_cu >= 0.25 && var.min_cu <= var.max_cu
    error_message = "min_cu is ${var.min_cu}; set 0.25 to max_cu (${var.max_cu})."
  }
}

variable "max_cu" {
  description = "Compute units at most."
  type        = number
  default     = 2
  validation {
    condition     = var.max_cu >= 0.25 && var.max_cu <= 56
    error_message = "max_cu is ${var.max_cu}; Neon takes 0.25 to 56."
  }
}

variable "suspend_after_s" {
  description = "After how long without a question the database sleeps; 0 is Neon's own 300, -1 never."
  type        = number
  default     = 0
  validation {
    condition     = var.suspend_after_s >= -1 && var.suspend_after_s <= 604800
    error_message = "suspend_after_s is ${var.suspend_after_s}; Neon takes -1 to 604800."
  }
  validation {
    condition     = !(var.zero_idle && var.suspend_after_s == -1)
    error_message = "suspend_after_s = -1 keeps the database awake, which costs money while nobody asks, but zero_idle = true. Set 0 or more, or zero_idle = false."
  }
}

variable "history_hours" {
  description = "How far back the database can be restored; the free plan has 6."
  type        = number
  default     = 6
  validation {
    condition     = var.history_hours >= 0 && var.history_hours <= 720
    error_message = "history_hours is ${var.history_hours}; Neon takes 0 to 720."
  }
}

variable "connection_budget" {
  description = "How many connections to the pooler the functions together may hold."
  type        = number
  default     = 100
  validation {
    condition     = var.connection_budget >= 1 && var.connection_budget <= 10000
    error_message = "connection_budget is ${var.connection_budget}; Neon's pooler takes 1 to 10000."
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
