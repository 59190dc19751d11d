variable "environment" {
  description = "Whose database this is."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,14}[a-z0-9]$", var.environment))
    error_message = "environment has 2 to 16 small letters, digits and hyphens; ${var.environment} has not."
  }
}

variable "hosts" {
  description = "Where the functions connect (a pooler where there is one), and where migrations do."
  type = object({
    pooled = string
    direct = string
  })
  validation {
    condition     = length(var.hosts.pooled) > 0 && length(var.hosts.direct) > 0
    error_message = "hosts needs both addresses; give the same twice where there is no pooler."
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
  description = "The role that migrations connect as; its password is made here unless the provider makes it."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.admin))
    error_message = "admin has 1 to 63 small letters, digits and underscores; ${var.admin} has not."
  }
}

variable "makes_admin" {
  description = "Whether the admin's password is made here; false where the provider makes it."
  type        = bool
  default     = true
}

variable "admin_password" {
  description = "Made by the provider."
  type        = string
  default     = null
  sensitive   = true
  validation {
    condition     = var.makes_admin == (var.admin_password == null)
    error_message = "Give admin_password with makes_admin = false, and only then."
  }
}

variable "generation" {
  description = "Raise it by one to change all passwords; then migrate, and apply the app."
  type        = number
  default     = 1
  validation {
    condition     = var.generation >= 1 && floor(var.generation) == var.generation
    error_message = "generation counts 1, 2, 3, not ${var.generation}."
  }
}

variable "connections" {
  description = "How many the functions together may hold."
  type        = number
  validation {
    condition     = var.connections >= 1
    error_message = "connections is ${var.connections}; expected at least 1."
  }
}

variable "always_on" {
  description = "What of the database costs money while nobody asks, in words."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for each in var.always_on : length(each) > 0])
    error_message = "always_on holds an empty text."
  }
}

variable "network" {
  description = "What a function needs to reach the database; null when it is reached over the internet."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
  validation {
    condition     = var.network == null || length(try(var.network.subnet_ids, [])) > 0
    error_message = "network needs at least one subnet."
  }
}
