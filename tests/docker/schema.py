"""A JSON Schema of the part of the Compose specification that docker/compose.yaml uses; anything else is an error."""

from typing import Any


def _only(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


_DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m)$"}
CONDITIONS = ["service_healthy", "service_completed_successfully"]
_STRINGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}

SCHEMA = {
    "type": "object",
    "required": ["name", "services", "networks", "volumes", "secrets"],
    "patternProperties": {"^x-": {}},
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "networks": {
            "additionalProperties": {"properties": {"internal": {"type": "boolean"}}, "additionalProperties": False}
        },
        "volumes": {"additionalProperties": {"type": "object", "maxProperties": 0}},
        "secrets": {
            "additionalProperties": {"required": ["file"], "additionalProperties": False, "properties": {"file": {}}}
        },
        "services": {
            "additionalProperties": {
                "type": "object",
                "required": ["image", "networks"],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string"},
                    "build": {"additionalProperties": False, "properties": {"context": {}, "dockerfile": {}}},
                    "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    "environment": {"additionalProperties": {"type": ["string", "number", "boolean"]}},
                    "secrets": {
                        "type": "array",
                        "items": {
                            "anyOf": [
                                {"type": "string"},
                                {"required": ["source", "target"], "maxProperties": 2, "type": "object"},
                            ]
                        },
                    },
                    "networks": _STRINGS,
                    "ports": _STRINGS,
                    "profiles": _STRINGS,
                    "volumes": _STRINGS,
                    "tmpfs": _STRINGS,
                    "cap_drop": _STRINGS,
                    "security_opt": _STRINGS,
                    "user": {"type": "string"},
                    "init": {"type": "boolean"},
                    "read_only": {"type": "boolean"},
                    "shm_size": {"type": "string"},
                    "stop_signal": {"enum": ["SIGINT", "SIGTERM"]},
                    "stop_grace_period": _DURATION,
                    "restart": {"type": "string", "pattern": "^(unless-stopped|on-failure:[0-9]+)$"},
                    "depends_on": {
                        "additionalProperties": {
                            "required": ["condition"],
                            "properties": {
                                "condition": {"enum": ["service_healthy", "service_completed_successfully"]}
                            },
                        }
                    },
                    "healthcheck": {
                        "additionalProperties": False,
                        "properties": {
                            "disable": {"const": True},
                            "test": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                            "interval": _DURATION,
                            "timeout": _DURATION,
                            "start_period": _DURATION,
                            "start_interval": _DURATION,
                            "retries": {"type": "integer"},
                        },
                    },
                    "deploy": {
                        "additionalProperties": False,
                        "properties": {
                            "replicas": {"type": "integer", "minimum": 1},
                            "resources": {
                                "additionalProperties": False,
                                "properties": {
                                    "limits": {
                                        "additionalProperties": False,
                                        "properties": {
                                            "memory": {"pattern": r"^\d+[MG]$"},
                                            "pids": {"type": "integer"},
                                        },
                                    }
                                },
                            },
                        },
                    },
                },
            }
        },
    },
}
