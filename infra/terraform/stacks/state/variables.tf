variable "region" {
  description = "Where the states lie."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is one of AWS's, such as eu-central-1, not ${var.region}."
  }
}

variable "api_gateway_logs" {
  description = "Let API Gateway write logs; one setting of the whole account and region, so leave it to whoever has set it."
  type        = bool
  default     = true
}

variable "emulated" {
  description = "Whether AWS_ENDPOINT_URL is an emulator's."
  type        = bool
  default     = false
}
