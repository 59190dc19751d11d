variable "name" {
  description = "Of the API."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.name))
    error_message = "An API's name has 1 to 128 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}

variable "function" {
  description = "What answers every request; permit names the alias, if any, that may be called."
  type = object({
    name       = string
    invoke_arn = string
    qualifier  = optional(string)
  })
  validation {
    condition     = length(var.function.name) > 0
    error_message = "function.name is empty."
  }
}

variable "throttle" {
  description = "Requests per second, and how many at once, before clients are told to wait."
  type = object({
    rate  = number
    burst = number
  })
  validation {
    condition     = var.throttle.rate >= 1 && var.throttle.burst >= 1 && var.throttle.burst <= 5000
    error_message = "throttle takes a rate of at least 1 and a burst of 1 to 5000."
  }
}

variable "log_days" {
  description = "How long access logs are kept."
  type        = number
  validation {
    condition     = var.log_days >= 1
    error_message = "log_days is ${var.log_days}; expected at least 1."
  }
}
