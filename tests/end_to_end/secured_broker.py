"""A native broker with certificates, users and access control lists."""

import datetime
import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.broker.native import NativeCluster, native_cluster
from streams.kafka.acls import AclGrant

PASSWORDS = {"plain-user": "plain-pass-7f3a", "router": "router-pass-91bc", "stranger": "stranger-pass-55de"}
JAAS = "org.apache.kafka.common.security"


class Authority:
    """Certificate authority for 127.0.0.1 and for clients; writes PEM files to a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key.public_key(), authority=True)
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(certificate)

    def issue(self, name: str) -> tuple[Path, Path, Path]:
        """Write a key, a certificate, and a file with both, as Kafka requires; return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        paths = tuple(self.folder / f"{name}.{part}.pem" for part in ("key", "cert", "both"))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = self._sign(subject, key.public_key(), authority=False)
        for path, content in zip(paths, (private, public, private + public), strict=True):
            path.write_bytes(content)
        return paths[0], paths[1], paths[2]

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
            )
            # Python 3.13 and newer verify certificates by RFC 5280 strictly
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
            .add_extension(_key_usage(authority), critical=True)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Secured:
    """The broker: an open listener for the test, and two that authenticate clients."""

    cluster: NativeCluster
    authority: Authority
    admin: AdminClient
    """Client of the test, connected to the open listener."""

    @property
    def open(self) -> str:
        """Address of the open listener, which permits everything."""
        return self.cluster.bootstrap_servers

    def login(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, object]:
        """Return settings for a login by name and password over TLS."""
        return {
            "bootstrap_servers": self.cluster.addresses("SECURE"),
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_username": user,
            "sasl_password": PASSWORDS[user],
            "ssl_cafile": self.authority.certificate,
        }

    def certified(self, name: str) -> dict[str, object]:
        """Return settings for a login by certificate."""
        key, certificate, _ = self.authority.issue(name)
        return {
            "bootstrap_servers": self.cluster.addresses("MUTUAL"),
            "security_protocol": "SSL",
            "ssl_cafile": self.authority.certificate,
            "ssl_certfile": certificate,
            "ssl_keyfile": key,
        }

    def allow(self, user: str, grants: Iterable[AclGrant]) -> None:
        for future in self.admin.create_acls([binding(user, grant) for grant in grants]).values():
            future.result(30)


def binding(user: str, grant: AclGrant) -> AclBinding:
    kinds = {
        "Topic": ResourceType.TOPIC,
        "Group": ResourceType.GROUP,
        "Cluster": ResourceType.BROKER,
        "TransactionalId": ResourceType.TRANSACTIONAL_ID,
    }
    operations = {
        "Read": AclOperation.READ,
        "Write": AclOperation.WRITE,
        "Create": AclOperation.CREATE,
        "Describe": AclOperation.DESCRIBE,
        "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
        "AlterConfigs": AclOperation.ALTER_CONFIGS,
    }
    pattern = ResourcePatternType.PREFIXED if grant.prefix else ResourcePatternType.LITERAL
    return AclBinding(
        kinds[grant.resource],
        grant.name,
        pattern,
        f"User:{user}",
        "*",
        operations[grant.operation],
        AclPermissionType.ALLOW,
    )


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """Start a broker with TLS, PLAIN, SCRAM-SHA-512, client certificates and Kafka's authorizer."""
    authority = Authority(folder, "authority")
    _, _, both = authority.issue("broker")
    stores = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
    }
    plain = f'user_plain-user="{PASSWORDS["plain-user"]}"'
    users = {
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.secure.plain.sasl.jaas.config": f"{JAAS}.plain.PlainLoginModule required {plain};",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
    }
    # Clients of the open listener are ANONYMOUS: the brokers, and the test.
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    listeners = {"SECURE": "SASL_SSL", "MUTUAL": "SSL"}
    with native_cluster(1, properties={**stores, **users, **authorizer}, listeners=listeners) as cluster:
        secured = Secured(cluster, authority, AdminClient({"bootstrap.servers": cluster.bootstrap_servers}))
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        changes = [
            UserScramCredentialUpsertion(user, info, PASSWORDS[user].encode())
            for user in ("router", "stranger")
        ]
        for future in secured.admin.alter_user_scram_credentials(changes).values():
            future.result(30)
        yield secured
