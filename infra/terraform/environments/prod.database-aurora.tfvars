max_acu           = 8
connection_budget = 500
