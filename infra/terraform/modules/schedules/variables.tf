variable "name" {
  description = "Of the group and the role."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,64}$", var.name))
    error_message = "A schedule group's name has 1 to 64 letters, digits, dots, hyphens and underscores; ${var.name} has not."
  }
}

variable "schedules" {
  description = "Task to expression; the function is called with {\"task\": name}."
  type        = map(string)
  validation {
    condition     = alltrue([for expression in values(var.schedules) : can(regex("^(cron|rate)\\(.+\\)$", expression))])
    error_message = "A schedule is cron(minutes hours day month weekday year) or rate(n hours), in UTC."
  }
}

variable "function_arn" {
  description = "What is called."
  type        = string
  validation {
    condition     = can(regex("^arn:[a-z-]+:lambda:", var.function_arn))
    error_message = "function_arn is the ARN of a function."
  }
}

variable "dead_letters_arn" {
  description = "Where calls go that could not be made."
  type        = string
  validation {
    condition     = can(regex("^arn:[a-z-]+:sqs:", var.dead_letters_arn))
    error_message = "dead_letters_arn is the ARN of a queue."
  }
}
