variable "name" {
  description = "What alarms, topic and dashboard are called after."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,80}$", var.name))
    error_message = "name has 1 to 80 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}

variable "emails" {
  description = "Who is told; each address has to confirm once."
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "emails holds addresses such as team@example.com."
  }
}

variable "functions" {
  description = "By short name: the function, its log group, and the database connections each running copy may hold."
  type = map(object({
    name        = string
    log_group   = string
    connections = number
  }))
  validation {
    condition     = length(var.functions) > 0
    error_message = "functions is empty, so there is nothing to observe."
  }
}

variable "queue" {
  description = "The queue of documents."
  type        = string
  validation {
    condition     = length(var.queue) > 0
    error_message = "queue is the name of a queue."
  }
}

variable "dead_letters" {
  description = "By short name: the dead-letter queues."
  type        = map(string)
  validation {
    condition     = length(var.dead_letters) > 0
    error_message = "dead_letters is empty; every queue has one."
  }
}

variable "api" {
  description = "Where CloudWatch finds the API, and what it calls failures."
  type = object({
    dimensions = map(string)
    errors     = string
  })
  validation {
    condition     = contains(["5xx", "5XXError"], var.api.errors)
    error_message = "api.errors is 5xx (HTTP API) or 5XXError (REST API)."
  }
}

variable "connection_budget" {
  description = "The database connections that all functions together may hold."
  type        = number
  validation {
    condition     = var.connection_budget >= 1
    error_message = "connection_budget is ${var.connection_budget}; expected at least 1."
  }
}

variable "thresholds" {
  description = "From where on somebody is told."
  type = object({
    p95_ms            = optional(number, 2000)
    error_rate        = optional(number, 0.01)
    queue_age_s       = optional(number, 300)
    connections_share = optional(number, 0.8)
    cold_starts       = optional(number, 50)
    throttles         = optional(number, 0)
  })
  default = {}
  validation {
    condition     = var.thresholds.error_rate > 0 && var.thresholds.error_rate < 1
    error_message = "thresholds.error_rate is a share between 0 and 1, not ${var.thresholds.error_rate}."
  }
  validation {
    condition     = var.thresholds.connections_share > 0 && var.thresholds.connections_share <= 1
    error_message = "thresholds.connections_share is a share above 0 and up to 1, not ${var.thresholds.connections_share}."
  }
  validation {
    condition     = min(var.thresholds.p95_ms, var.thresholds.queue_age_s, var.thresholds.cold_starts) > 0 && var.thresholds.throttles >= 0
    error_message = "thresholds are positive (throttles may be 0)."
  }
}
