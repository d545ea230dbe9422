"""Settings: frozen, from the environment (KEYRIVER_…) over a TOML file (KEYRIVER_CONFIG); secrets come from files.

A fleet whose id begins with `dev-` is for development; any other refuses to start without the protections of S17.
"""

import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlparse

from pydantic import Field, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from worker.chain.plan import Limits
from worker.edges.keystores.endpoints import is_endpoint
from worker.model.imports import SAFE_ALGORITHMS, ImportAlgorithm
from worker.model.rows import Suite
from worker.model.topics import DAY_MS, REQUEST_RETENTION_MS

CONFIG = "KEYRIVER_CONFIG"
LOCAL_CONFIG = Path(".keyriver/keyriver.toml")
DEVELOPMENT = "dev-"
WEEK_S = 7 * 24 * 3600


class Reach(BaseSettings):
    """How to reach the fleet over Kafka: all that an officer's machine needs."""

    model_config = SettingsConfigDict(env_prefix="KEYRIVER_", extra="ignore", frozen=True, hide_input_in_errors=True)

    identities: Path = Field(default=Path(".keyriver/identities"), description="Where identity files are kept")
    topic_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "keyriver"

    kafka_bootstrap: str = Field(description="host:port, comma-separated")
    kafka_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password_file: Path | None = None
    kafka_ca_file: Path | None = None
    kafka_cert_file: Path | None = None
    kafka_key_file: Path | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a .env file is not read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - secrets have files of their own
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @field_validator("kafka_password_file")
    @classmethod
    def _password_exists(cls, path: Path | None) -> Path | None:
        return path if path is None else _existing(path)

    def kafka_password(self) -> str | None:
        """The SASL password, read now."""
        return None if self.kafka_password_file is None else self.kafka_password_file.read_text().strip()


class Books(Reach):
    """What an auditor's machine needs besides: a login to Postgres that may read."""

    postgres_dsn_file: Path = Field(description="A file that holds the DSN, password included")

    @field_validator("postgres_dsn_file")
    @classmethod
    def _dsn_exists(cls, path: Path) -> Path:
        _parameters(_existing(path).read_text().strip())
        return path

    def postgres_dsn(self) -> str:
        """The DSN, read now. Holds a password: don't print it."""
        return self.postgres_dsn_file.read_text().strip()


class Settings(Books):
    """Everything that a worker and the command line need to know. `keyriver doctor` explains what is wrong."""

    model_config = SettingsConfigDict(extra="forbid")

    fleet: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = Field(
        description="The fleet's id, part of every signature. `dev-…` is development."
    )
    kafka_session_s: float = Field(default=10.0, ge=1.0, le=300.0)
    kafka_replicas: int = Field(default=1, ge=1, le=10)
    kafka_partitions: int = Field(default=12, ge=1, le=1000)

    postgres_pool: int = Field(default=6, ge=2, le=64)

    hsm_module: Path = Field(description="The PKCS#11 module")
    hsm_env: dict[str, str] = Field(default={}, description="Set before the module is loaded, such as SOFTHSM2_CONF")
    hsm_label: str = ""
    hsm_serial: str = ""
    hsm_pin_file: Path = Field(description="A file of mode 0400 that holds the user PIN")
    hsm_sessions: int = Field(default=2, ge=1, le=64)
    hsm_handles: int = Field(default=4096, ge=16)

    keystore_credentials: Path | None = Field(
        default=None, description="A folder with NAME.json, mode 0400, for each credential at customers' keystores"
    )
    keystore_endpoints: tuple[str, ...] = Field(
        default=(), description="Where keystores may be: prefixes https://host[:port][/path]; all else is denied"
    )
    keystore_modules: dict[str, Path] = Field(
        default={}, description="Customers' PKCS#11 modules by nickname; their environment goes into hsm_env"
    )
    keystore_timeout_ms: int = Field(
        default=250, ge=10, le=10_000, description="For one exchange with a keystore, TCP and TLS included"
    )

    keystore_probe_s: float = Field(
        default=5.0, ge=0.1, le=60.0, description="How often each keystore in use is asked whether the customer agrees"
    )
    sovereign_limit_s: float = Field(
        default=60.0, ge=1.0, le=3600.0, description="Without contact for so long a customer's keys are refused"
    )

    intake_suites: tuple[Suite, ...] = (Suite.X25519,)
    ledger_window_days: int = Field(default=14, gt=REQUEST_RETENTION_MS // DAY_MS, le=365)
    """Longer than any request topic remembers: else a request could come again when its outcome is forgotten (D1)."""
    destroy_grace_s: int = Field(
        default=WEEK_S, ge=0, le=30 * 24 * 3600, description="The shortest grace of a destruction; 7 days at least"
    )
    recoverable_days: int | None = Field(
        default=None,
        ge=0,
        le=36_500,
        description="Longest life of any backup or topic; without it nothing is destroyed",
    )
    worker_session_s: float = Field(
        default=30.0, ge=1.0, le=3600.0, description="A destruction waits so long for a worker that is not heard of"
    )
    import_algorithms: tuple[ImportAlgorithm, ...] = Field(
        default=tuple(one for one in ImportAlgorithm if one in SAFE_ALGORITHMS),
        description="How customers may wrap the keys that they bring; SHA-1 only where it stands here by name",
    )
    import_life_s: int = Field(default=24 * 3600, ge=1, le=24 * 3600, description="How long import parameters hold")
    request_bytes: int = Field(default=2 * 1024 * 1024, ge=1024, le=8 * 1024 * 1024)
    request_items: int = Field(default=1000, ge=1, le=1000)
    batch_records: int = Field(default=500, ge=1, le=10_000)
    batch_bytes: int = Field(default=1024 * 1024, ge=1024)
    slice_items: int = Field(default=1000, ge=1, le=10_000, description="DEKs in one slice of a campaign")
    bulk_hsm_share: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Percent of the token's time for bulk work, of all its processes together",
    )
    bulk_niceness: int = Field(default=10, ge=0, le=19, description="Of processes with no other lane than bulk")
    interactive_p99_ms: int = Field(
        default=50, ge=1, le=60_000, description="Bulk work backs off while interactive answers are slower"
    )
    campaign_slices_days: int = Field(
        default=90,
        ge=1,
        le=36_500,
        description="So long each slice of a done campaign is remembered; of a compromised version for ever",
    )
    batches_in_flight: int = Field(default=2, ge=1, le=16)

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535, description="0: no health and metrics endpoint")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    failpoints: str = Field(default="", description="Tests only; refused outside development")

    @field_validator("hsm_pin_file", "hsm_module")
    @classmethod
    def _exists(cls, path: Path) -> Path:
        return _existing(path)

    @field_validator("keystore_credentials")
    @classmethod
    def _is_a_folder(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError(f"there is no folder {path}")
        return path

    @field_validator("keystore_endpoints")
    @classmethod
    def _are_endpoints(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in prefixes:
            if not is_endpoint(prefix):
                raise ValueError(f"{prefix} is not of the form https://host[:port][/path], without a slash at its end")
        return prefixes

    @field_validator("keystore_modules")
    @classmethod
    def _all_exist(cls, modules: dict[str, Path]) -> dict[str, Path]:
        return {name: _existing(path) for name, path in modules.items()}

    @model_validator(mode="after")
    def _names_a_token(self) -> Self:
        if not (self.hsm_label or self.hsm_serial):
            raise ValueError("hsm_label or hsm_serial: name the token")
        return self

    @model_validator(mode="after")
    def _probes_in_time(self) -> Self:
        if self.sovereign_limit_s < 2 * self.keystore_probe_s:
            raise ValueError("sovereign_limit_s: at least twice keystore_probe_s, or one lost probe is a cut")
        return self

    @model_validator(mode="after")
    def _is_hardened(self) -> Self:
        """Production demands what S17 lists; each message names the setting."""
        if self.is_development:
            return self
        if self.destroy_grace_s < WEEK_S:
            raise ValueError("destroy_grace_s: a production fleet gives seven days at least")
        if self.failpoints:
            raise ValueError("failpoints: only for a fleet whose id begins with dev-")
        if self.kafka_protocol not in {"SSL", "SASL_SSL"} or (
            self.kafka_protocol == "SSL" and self.kafka_cert_file is None
        ):
            raise ValueError("kafka_protocol: a production fleet needs SASL_SSL, or SSL with kafka_cert_file")
        if _parameters(self.postgres_dsn()).get("sslmode") != "verify-full":
            raise ValueError("postgres_dsn_file: a production fleet needs sslmode=verify-full")
        if stat.S_IMODE(self.hsm_pin_file.stat().st_mode) != stat.S_IRUSR:
            raise ValueError("hsm_pin_file: its mode must be 0400")
        return self

    @property
    def is_development(self) -> bool:
        """Whether the protections of S17 may be missing."""
        return self.fleet.startswith(DEVELOPMENT)

    @property
    def ledger_window(self) -> timedelta:
        """How long a request is remembered."""
        return timedelta(days=self.ledger_window_days)

    @property
    def slices_window(self) -> timedelta:
        """How long slices of done campaigns are remembered."""
        return timedelta(days=self.campaign_slices_days)

    @property
    def limits(self) -> Limits:
        """What `decide` is bound by."""
        return Limits(
            ledger_window_ms=round(self.ledger_window.total_seconds() * 1000),
            shortest_grace_ms=self.destroy_grace_s * 1000,
            import_algorithms=frozenset(self.import_algorithms),
            import_life_ms=self.import_life_s * 1000,
            recoverable_ms=None if self.recoverable_days is None else self.recoverable_days * DAY_MS,
        )

    def hsm_pin(self) -> str:
        """The PIN, read now."""
        return self.hsm_pin_file.read_text().strip()


def config_file() -> Path | None:
    """The TOML file: KEYRIVER_CONFIG, or what `keyriver local up` wrote here."""
    named = os.environ.get(CONFIG)
    if named:
        return Path(named)
    return LOCAL_CONFIG if LOCAL_CONFIG.is_file() else None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def _parameters(dsn: str) -> dict[str, str]:
    """The parameters of a DSN as asyncpg reads them: of a repeated one the last counts. Its errors would quote it."""
    try:
        address = urlparse(dsn)
        found = parse_qs(address.query, strict_parsing=True) if address.query else {}
    except ValueError:
        raise ValueError("the address can't be read") from None
    if address.scheme not in {"postgresql", "postgres"}:
        raise ValueError("an address of the form postgresql://… is needed")
    return {name: values[-1] for name, values in found.items()}
