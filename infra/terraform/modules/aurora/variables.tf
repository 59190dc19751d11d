variable "name" {
  description = "Of the cluster."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,50}[a-z0-9]$", var.name))
    error_message = "name has 2 to 52 small letters, digits and hyphens; ${var.name} has not."
  }
}

variable "database" {
  description = "The name of the database."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.database))
    error_message = "database has 1 to 63 small letters, digits and underscores; ${var.database} has not."
  }
}

variable "admin" {
  description = "The role that migrations connect as."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,15}$", var.admin))
    error_message = "admin has 1 to 16 small letters, digits and underscores; ${var.admin} has not."
  }
}

variable "engine_version" {
  description = "Aurora PostgreSQL; pgvector 0.8 comes with 16.8 and 17.4."
  type        = string
  default     = "17.5"
  validation {
    condition     = can(regex("^(16\\.([89]|[1-9][0-9])|17\\.([4-9]|[1-9][0-9]))$", var.engine_version))
    error_message = "engine_version is ${var.engine_version}; 16.8 and later, or 17.4 and later, have the pgvector this needs."
  }
}

variable "network" {
  description = "Where the cluster lies, and the security group of those who may connect."
  type = object({
    vpc_id                      = string
    subnet_ids                  = list(string)
    functions_security_group_id = string
  })
  validation {
    condition     = length(var.network.subnet_ids) >= 2
    error_message = "Aurora wants subnets in at least two zones."
  }
}

variable "min_acu" {
  description = "Aurora capacity units while nobody asks; 0 pauses the database."
  type        = number
  default     = 0
  validation {
    condition     = var.min_acu >= 0 && var.min_acu <= var.max_acu && var.min_acu * 2 == floor(var.min_acu * 2)
    error_message = "min_acu is ${var.min_acu}; set 0 to max_acu (${var.max_acu}) in halves."
  }
}

variable "max_acu" {
  description = "Aurora capacity units at most; one is 2 GiB of memory."
  type        = number
  default     = 2
  validation {
    condition     = var.max_acu >= 1 && var.max_acu <= 256 && var.max_acu * 2 == floor(var.max_acu * 2)
    error_message = "max_acu is ${var.max_acu}; set 1 to 256 in halves."
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

variable "proxy" {
  description = "RDS Proxy in front: a pooler, and never asleep."
  type        = bool
  default     = false
  validation {
    condition     = !(var.proxy && var.min_acu == 0)
    error_message = "RDS Proxy keeps connections open, so a database behind it never pauses and min_acu = 0 would be a lie. Set min_acu to 0.5 or more, or proxy = false."
  }
}

variable "connection_budget" {
  description = "How many connections the functions together may hold."
  type        = number
  validation {
    # about 189 for each ACU at most, fewer than 2000 where the least is 0 or 0.5; ten are left for people
    condition     = var.connection_budget >= 1 && var.connection_budget <= min(189 * var.max_acu, var.min_acu <= 0.5 ? 2000 : 5000) - 10
    error_message = "connection_budget is ${var.connection_budget}, more than a cluster of ${var.max_acu} ACU grants (${min(189 * var.max_acu, var.min_acu <= 0.5 ? 2000 : 5000) - 10}, ten being left for people). Lower it or raise max_acu."
  }
}

variable "zero_idle" {
  description = "Promise that nothing costs money while nobody asks."
  type        = bool
  validation {
    condition     = !(var.zero_idle && var.proxy)
    error_message = "RDS Proxy costs money while nobody asks, but zero_idle = true. Set proxy = false, or zero_idle = false."
  }
  validation {
    condition     = !(var.zero_idle && var.min_acu > 0)
    error_message = "min_acu = ${var.min_acu} costs about ${format("%.0f", var.min_acu * 88)} USD a month while nobody asks, but zero_idle = true. Set min_acu = 0, or zero_idle = false."
  }
}

variable "disposable" {
  description = "Whether destroying it may destroy the data, without a last snapshot."
  type        = bool
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

variable "passwords" {
  description = "By role, admin among them."
  type        = map(string)
  ephemeral   = true
}

variable "passwords_generation" {
  description = "Counts up when the passwords change."
  type        = number
  validation {
    condition     = var.passwords_generation >= 1
    error_message = "passwords_generation is ${var.passwords_generation}; expected at least 1."
  }
}
