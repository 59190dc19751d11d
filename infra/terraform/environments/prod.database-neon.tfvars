max_cu            = 8
history_hours     = 168
connection_budget = 500
