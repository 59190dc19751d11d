variable "name" {
  description = "What everything in it is called after."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9-]{1,60}$", var.name))
    error_message = "name has 1 to 60 small letters, digits and hyphens; ${var.name} has not."
  }
}

variable "cidr" {
  description = "The private addresses."
  type        = string
  default     = "10.64.0.0/20"
  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 15)) && can(regex("^(10|172\\.(1[6-9]|2[0-9]|3[01])|192\\.168)\\.", var.cidr))
    error_message = "cidr is a private network of at most /24, such as 10.64.0.0/20, not ${var.cidr}."
  }
}

variable "zones" {
  description = "The letters of two availability zones of the region; some regions lack b for some accounts."
  type        = list(string)
  default     = ["a", "b"]
  validation {
    condition     = length(distinct(var.zones)) == 2 && alltrue([for letter in var.zones : can(regex("^[a-f]$", letter))])
    error_message = "zones names two zones by their letters, such as [\"a\", \"b\"]."
  }
}

variable "ipv6" {
  description = "A way out over IPv6, which costs nothing."
  type        = bool
  default     = true
}

variable "nat" {
  description = "A way out over IPv4, which costs money day and night; IPv6 has one for nothing."
  type        = bool
  default     = false
}

variable "zero_idle" {
  description = "Promise that nothing costs money while nobody asks."
  type        = bool
  validation {
    condition     = !(var.zero_idle && var.nat)
    error_message = "A NAT gateway costs about 33 USD a month while nobody asks, but zero_idle = true. Set nat = false (functions then reach AWS and what else speaks IPv6), take database-neon, which needs no VPC, or set zero_idle = false."
  }
}
