variable "name" {
  description = "Of the bucket, unique in the world."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name has 3 to 63 small letters, digits and hyphens; ${var.name} has not."
  }
}

variable "disposable" {
  description = "Whether destroying the bucket also destroys the objects in it."
  type        = bool
}

variable "noncurrent_days" {
  description = "How many days a replaced or deleted object can still be brought back."
  type        = number
  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 3650
    error_message = "noncurrent_days is ${var.noncurrent_days}; expected 1 to 3650."
  }
}

variable "upload_origins" {
  description = "Web origins whose pages may upload with presigned addresses."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for origin in var.upload_origins : can(regex("^https://[^*/]+$|^http://(([a-z0-9-]+\\.)*localhost|127\\.0\\.0\\.1)(:[0-9]+)?$", origin))])
    error_message = "upload_origins names exact origins such as https://app.example.com; wildcards would let any page upload."
  }
}
