environment = "staging"
region      = "eu-central-1"
zero_idle   = true
