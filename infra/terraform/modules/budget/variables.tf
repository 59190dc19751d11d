variable "name" {
  description = "Of the budget."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,100}$", var.name))
    error_message = "A budget's name has 1 to 100 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}

variable "monthly_usd" {
  description = "What a month may cost."
  type        = number
  validation {
    condition     = var.monthly_usd > 0
    error_message = "monthly_usd is ${var.monthly_usd}; expected more than 0."
  }
}

variable "tag" {
  description = "The cost allocation tag whose resources count."
  type = object({
    name  = string
    value = string
  })
  validation {
    condition     = length(var.tag.name) > 0 && length(var.tag.value) > 0
    error_message = "tag needs a name and a value."
  }
}

variable "topic_arn" {
  description = "Who is told."
  type        = string
  validation {
    condition     = can(regex("^arn:[a-z-]+:sns:", var.topic_arn))
    error_message = "topic_arn is the ARN of an SNS topic."
  }
}
