"""How many gateways, workers and Redis servers a load needs: a model of what each step costs, fed with measured costs.

model     what each part of a cluster spends on a load. Pure
fit       the costs of the steps, from measured runs. Pure
measure   the runs
plan      the cluster for a load. Pure
"""
