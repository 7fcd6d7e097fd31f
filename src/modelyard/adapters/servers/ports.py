"""The ports at which ``modelyard services`` starts its servers on loopback, unless told otherwise."""

PORTS = {"s3": 8333, "postgresql": 5433, "mlflow": 5000, "prefect": 4200, "ray": 6379, "dashboard": 8265}
