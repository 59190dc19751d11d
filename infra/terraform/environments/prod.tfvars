environment = "prod"
region      = "eu-central-1"
zero_idle   = true # asleep at night, too; who wants it warm says false here and sets provisioned_concurrency
