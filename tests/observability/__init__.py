"""A real Prometheus beside a real cluster under load.

prometheus   a Prometheus server that scrapes the processes of a cluster
scene        the cluster, its upstreams, and clients of many kinds
dashboards   `just test-dashboards`: runs every query of the dashboard and every recording rule
alerts       `just test-alerts`: breaks the cluster, and waits for the alerts
"""
