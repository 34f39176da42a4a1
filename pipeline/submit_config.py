"""Settings of a job that is submitted to a cluster from elsewhere."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from actors.config import StrictModel


class DriverConfig(StrictModel):
    """What Ray reserves for the job's own process, which uses hardly any of it.

    Without any of these it runs on the cluster's head, which outlives the pools' nodes. With one
    of them Ray puts it on any node that has as much, and takes that from the pools.

    Attributes:
        num_cpus: cores.
        memory_bytes: memory.
        resources: others, by the names that the cluster's nodes give them.
    """

    num_cpus: float = Field(default=0.0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)


class SubmitConfig(StrictModel):
    """Which cluster, what goes there, and how it is followed.

    Attributes:
        address: of the cluster's dashboard, as in http://head:8265; None means
            RAY_API_SERVER_ADDRESS or RAY_ADDRESS of the environment.
        verify: whether the certificate of an https address is checked; or a file or folder of
            certificates that are trusted.
        shared_paths: folders that all nodes have under the same path. Local paths of the job must
            lie below one of them.
        code: whether this machine's code goes along. Otherwise the image's is run, which must be of
            the same version.
        python: interpreter that runs the job, as the shell of the cluster's head finds it.
        environment: variables of all processes of the job. Whoever may look at the dashboard can
            read them.
        driver: what is reserved for the job's own process.
        reconnect_s: so long the cluster may be out of reach while a job is followed.
        stop_wait_s: so long a job that is stopped may take to end by itself.
    """

    address: str | None = None
    verify: bool | str = True
    shared_paths: tuple[str, ...] = ()
    code: bool = True
    python: str = Field(default="python", min_length=1)
    environment: dict[str, str] = Field(default_factory=dict)
    driver: DriverConfig = DriverConfig()
    reconnect_s: float = Field(default=1800.0, ge=0)
    stop_wait_s: int = Field(default=60, ge=1)

    @field_validator("address")
    @classmethod
    def _of_a_dashboard(cls, address: str | None) -> str | None:
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError("write that of the cluster's dashboard, as in http://head:8265")
        if "@" in urlsplit(address or "").netloc:
            # They would be in every message and command that names the address.
            raise ValueError("holds credentials; send them by --header or RAY_JOB_HEADERS")
        return address

    @field_validator("shared_paths")
    @classmethod
    def _absolute(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if relative := [path for path in paths if not path.startswith("/")]:
            raise ValueError(f"{relative[0]} is another folder on other machines; begin with /")
        return paths
