"""A Kafka with passwords and ACLs by prefix, as docs/runbook.md describes."""

import secrets
from collections.abc import Mapping

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from embedded import ports
from embedded.kafka import Kafka

Rights = Mapping[ResourceType, tuple[str, ...]]

ALL: Rights = {
    ResourceType.TOPIC: ("READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS", "ALTER"),
    ResourceType.GROUP: ("READ", "DESCRIBE"),
    ResourceType.TRANSACTIONAL_ID: ("WRITE", "DESCRIBE"),
}
"""The rights of an environment."""
DESCRIBE: Rights = {ResourceType.TOPIC: ("DESCRIBE",), ResourceType.GROUP: ("DESCRIBE",)}
"""The rights of the monitor."""


class ClosedKafka:
    """Adds a listener with passwords to a Kafka that has not been started. The test keeps using the listener without."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._port = ports.free(1)[0]
        node = kafka.members[0]
        own, clients = f"PLAINTEXT://{ports.HOST}:{node.port}", f"CLIENT://{ports.HOST}:{self._port}"
        module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        kafka.options |= {
            "listeners": f"{own},CONTROLLER://{ports.HOST}:{node.controller_port},{clients}",
            "advertised.listeners": f"{own},{clients}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENT:SASL_PLAINTEXT",
            "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.client.scram-sha-512.sasl.jaas.config": module,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    def add_account(self, name: str, prefix: str, rights: Rights = ALL) -> dict[str, str]:
        """Create an account that has access to its prefix only. Returns the environment variables of its services."""
        admin = AdminClient({"bootstrap.servers": self._kafka.bootstrap_servers, "log_level": 0})
        password = secrets.token_urlsafe(12)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        [future] = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, info, password.encode())]
        ).values()
        future.result(10)
        operations = [(kind, operation) for kind, some in rights.items() for operation in some]
        rules = [
            AclBinding(
                kind,
                prefix,
                ResourcePatternType.PREFIXED,
                f"User:{name}",
                "*",
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )
            for kind, operation in operations
        ]
        for future in admin.create_acls(rules).values():
            future.result(10)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"{ports.HOST}:{self._port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_USERNAME": name,
            "KAFKA_SASL_PASSWORD": password,
        }
