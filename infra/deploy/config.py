"""Settings of a deployment: what the pools' own settings do not already say."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.device_kinds import DeviceKind

_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_Labels = dict[
    Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}\w)?$")],
    Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")],
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NodesConfig(_Strict):
    """Nodes of one kind; a pod of Ray is one node, and fills what it asks for.

    Attributes:
        cpus: vCPUs of one node.
        memory_gib: memory of one node. Ray puts 30 % of it into its object store.
        node_selector: labels that machines must have.
        instance_type: of AWS, for the target ray-up.
    """

    cpus: int = Field(default=4, ge=1)
    memory_gib: int = Field(default=16, ge=4)
    node_selector: _Labels = {}
    instance_type: str | None = None


class WorkersConfig(NodesConfig):
    """Nodes of one pool.

    Attributes:
        gpus: of one node; None means as many as one replica takes, rounded up.
        accelerator: what the GPUs are, for prices.
        spot: whether machines may be taken away at any time, which costs less. The small pool's are
            by default: what one of its replicas has under way is a few seconds' work.
    """

    gpus: int | None = Field(default=None, ge=1)
    accelerator: DeviceKind | None = None
    spot: bool = False

    @field_validator("accelerator")
    @classmethod
    def _is_a_gpu(cls, kind: DeviceKind | None) -> DeviceKind | None:
        if kind is DeviceKind.CPU:
            raise ValueError("is what GPUs are; leave it out where there are none")
        return kind


class SmallWorkersConfig(WorkersConfig):
    """Nodes of the small pool."""

    spot: bool = True


class CapacityConfig(_Strict):
    """The label by which machines say whether they are spot ones; by default Karpenter's.

    Attributes:
        label: its name.
        spot: its value on machines that may be taken away.
        on_demand: on others.
    """

    label: str = "karpenter.sh/capacity-type"
    spot: str = "spot"
    on_demand: str = "on-demand"


class VolumeConfig(_Strict):
    """The shared volume that holds the models.

    Attributes:
        mount: where nodes have it.
        size_gib: that is claimed.
        storage_class: None takes the cluster's default. It must be one that many nodes can mount at
            the same time, such as EFS, FSx, Filestore or NFS.
    """

    mount: str = Field(default="/models", pattern=r"^/[A-Za-z0-9_][A-Za-z0-9_/-]*$")
    size_gib: int = Field(default=200, ge=1)
    storage_class: str | None = None


class AwsConfig(_Strict):
    """Where `ray up` starts machines.

    Attributes:
        region: of all of them.
        image_id: machine image, with Docker and, for GPUs, NVIDIA's driver and container toolkit.
        subnets: private ones.
        security_groups: that let nothing in but SSH from where `ray up` runs, and each other.
        instance_profile: ARN of the profile by which the head reaches S3 and starts machines.
        workers_profile: of the workers, which need S3 alone; None is the head's.
        ssh_user: of the machine image.
        file_system: host name of an NFS export, such as EFS's, with the models; None lets every
            node download its own.
        disk_gib: of one machine.
    """

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    image_id: str = Field(pattern=r"^ami-[0-9a-f]+$")
    subnets: tuple[str, ...] = Field(min_length=1)
    security_groups: tuple[str, ...] = Field(min_length=1)
    instance_profile: str | None = Field(default=None, pattern=r"^arn:")
    workers_profile: str | None = Field(default=None, pattern=r"^arn:")
    ssh_user: str = Field(default="ubuntu", pattern=r"^[a-z][a-z0-9_-]*$")
    file_system: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+$")
    disk_gib: int = Field(default=200, ge=30)


class DeployConfig(_Strict):
    """One deployment of a job or an endpoint.

    Attributes:
        image: of `infra/deploy/Dockerfile`, with a tag that stays, or a digest.
        demo_image: the same without CUDA, for the overlay that tries the cluster on cores alone;
            None takes `image`.
        name: of what is rendered.
        namespace: in which it lies.
        role_arn: IAM role that pods take on to reach S3 (IRSA); None gives them none.
        client_namespaces: whose pods may call an endpoint, besides those of its own namespace.
        operator_namespace: where KubeRay's operator runs, which asks Ray's dashboard.
        metrics_namespace: where Prometheus runs, which asks all nodes; None lets none ask.
        capacity: how machines say that they are spot ones; None lets both be anything.
        head: the node of the driver and of Ray's own processes; no replica runs there.
        small: nodes of the small pool.
        large: nodes of the large pool.
        volume: of the models.
        aws: for the target ray-up.
    """

    image: str = Field(min_length=1)
    demo_image: str | None = None
    name: str = Field(default="sgl", pattern=_NAME, max_length=30)
    namespace: str = Field(default="sgl", pattern=_NAME, max_length=63)
    role_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$")
    client_namespaces: tuple[Annotated[str, Field(pattern=_NAME)], ...] = ()
    operator_namespace: str = Field(default="kuberay-system", pattern=_NAME)
    metrics_namespace: str | None = Field(default=None, pattern=_NAME)
    capacity: CapacityConfig | None = CapacityConfig()
    head: NodesConfig = NodesConfig()
    small: SmallWorkersConfig = SmallWorkersConfig()
    large: WorkersConfig = WorkersConfig()
    volume: VolumeConfig = VolumeConfig()
    aws: AwsConfig | None = None

    @field_validator("image", "demo_image")
    @classmethod
    def _stays(cls, image: str | None) -> str | None:
        tag = (image or ":-").rpartition("/")[2].partition(":")[2]
        if not tag or tag == "latest":
            raise ValueError(
                f"'{image}' may be another image tomorrow; write a tag other than latest, or a "
                "digest, as in registry.example/sgl:0.1.0-cuda"
            )
        return image

    @property
    def nodes(self) -> dict[str, WorkersConfig]:
        """Nodes of each pool."""
        return {"small": self.small, "large": self.large}
