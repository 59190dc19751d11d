variable "name" {
  description = "Of the queue."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,80}$", var.name))
    error_message = "A queue's name has 1 to 80 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}
