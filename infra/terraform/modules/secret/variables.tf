variable "name" {
  description = "Of the SSM parameter."
  type        = string
  validation {
    condition     = can(regex("^/ragzero/[a-z0-9-]+/[a-z]+/[A-Z_]+$", var.name))
    error_message = "name is /ragzero/<environment>/<reader>/<VARIABLE>, not ${var.name}."
  }
}

variable "generation" {
  description = "Raised by one, makes a new secret."
  type        = number
  validation {
    condition     = var.generation >= 1 && floor(var.generation) == var.generation
    error_message = "generation counts 1, 2, 3, not ${var.generation}."
  }
}
