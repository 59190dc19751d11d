variable "name" {
  description = "Of the API."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.name))
    error_message = "An API's name has 1 to 128 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}

variable "stage" {
  description = "The first part of every path."
  type        = string
  default     = "live"
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.stage))
    error_message = "A stage's name has 1 to 128 letters, digits, hyphens and underscores; ${var.stage} has not."
  }
}

variable "routes" {
  description = "Paths and their methods, in small letters, as the app's OpenAPI document has them."
  type        = map(list(string))
  validation {
    condition     = alltrue([for path, methods in var.routes : startswith(path, "/")])
    error_message = "A route's path begins with a slash."
  }
  validation {
    condition = alltrue(flatten([for path, methods in var.routes : [
      for method in methods : contains(["get", "put", "post", "delete", "patch", "head", "options"], method)
    ]]))
    error_message = "A route's methods are HTTP's, in small letters."
  }
}

variable "streaming_routes" {
  description = "The routes, as METHOD /path, whose answers come piece by piece."
  type        = set(string)
  validation {
    condition     = alltrue([for route in var.streaming_routes : can(regex("^[A-Z]+ /", route))])
    error_message = "A streaming route is written as POST /v1/query."
  }
}

variable "buffered" {
  description = "The function that answers at once, and how long it may take."
  type = object({
    name       = string
    arn        = string
    qualifier  = optional(string)
    timeout_ms = number
  })
  validation {
    condition     = var.buffered.timeout_ms >= 50 && var.buffered.timeout_ms <= 29000
    error_message = "buffered.timeout_ms is ${var.buffered.timeout_ms}; a REST API waits 50 to 29000 ms for a whole answer."
  }
}

variable "streaming" {
  description = "The function whose answer is passed on as it comes, and how long it may take."
  type = object({
    name       = string
    arn        = string
    qualifier  = optional(string)
    timeout_ms = number
  })
  validation {
    condition     = var.streaming.timeout_ms >= 50 && var.streaming.timeout_ms <= 900000
    error_message = "streaming.timeout_ms is ${var.streaming.timeout_ms}; a REST API streams for 50 to 900000 ms."
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
