"""Settings of the endpoint: frozen, strict, one YAML file; light to import (no Ray, no torch)."""

import re
from enum import StrEnum
from ipaddress import ip_network

from pydantic import Field, field_validator, model_validator

from actors.config import DecodingConfig, GuidanceConfig, ModelConfig, PruningConfig, StrictModel
from infra.deploy.config import DeployConfig
from infra.pricing import PricingConfig
from infra.s3 import StorageConfig
from pipeline.http_config import HttpConfig
from pipeline.logs import LogsConfig
from pipeline.ray_config import RayConfig

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Degrade(StrEnum):
    """What becomes of a request that should escalate while the large pool cannot take it."""

    SMALL = "small"
    ERROR = "error"


class PairConfig(StrictModel):
    """Both models; unlike in a batch job, neither can be left out."""

    small: ModelConfig
    large: ModelConfig


class ServePoolConfig(StrictModel):
    """Replicas of one model.

    Attributes:
        replicas: of which there are at least so many.
        max_replicas: at most; more than `replicas` lets Ray Serve add some while requests wait,
            as far as the cluster has room.
        num_gpus: per replica; several are of one node, and the model is split over them. None means
            1 where the cluster has GPUs, an equal share of one where it has fewer GPUs than
            `replicas` of both pools, and 0 where it has none.
        num_cpus: cores reserved per replica.
        node_labels: labels of Ray's nodes that replicas may be on; none means any node.
        usd_per_hour: price of one device for an hour; None takes the price book's.
        upscale_delay_s: requests have to wait so long before there is another replica.
        downscale_delay_s: it has to be needless so long before it goes again.
        max_waiting: requests per replica that wait; more are refused at once.
        batches: as many records as of so many whole batches may be under way in a replica at the
            same time: while some decode, the next ones are admitted.
    """

    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    num_gpus: float | None = Field(default=None, ge=0)
    num_cpus: float = Field(default=0.01, gt=0)
    node_labels: dict[str, str] = Field(default_factory=dict)
    usd_per_hour: float | None = Field(default=None, ge=0)
    upscale_delay_s: float = Field(default=10.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)
    max_waiting: int = Field(default=128, ge=1)
    batches: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _max_above_min(self) -> "ServePoolConfig":
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas: is below replicas; write more, or leave it out")
        return self


class ServePoolsConfig(StrictModel):
    """Both pools."""

    small: ServePoolConfig = ServePoolConfig()
    large: ServePoolConfig = ServePoolConfig()


class ListenConfig(StrictModel):
    """Where the endpoint listens.

    Attributes:
        host: loopback by default; anything wider is warned of where there are no keys.
        port: of HTTP.
        replicas: of the process that parses requests and decodes pictures.
        num_cpus: cores reserved for each of them.
        allowed_hosts: names that clients may call it by, besides those of loopback. None written:
            on loopback no further ones, elsewhere any.
        cors_origins: web pages of these origins may call it; none by default.
        trusted_proxies: addresses or networks of proxies in front, whose X-Forwarded-For tells who
            asks; nobody's by default, and of no other proxy than these.
        playground: whether the page at / is served.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0.1, gt=0)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    playground: bool = True

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise ValueError(f"'{origin}' is no origin; write https://example.org")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError:
                raise ValueError(
                    f"'{proxy}' is no address; write 10.0.0.7 or 10.0.0.0/24"
                ) from None
        return proxies

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host):
                raise ValueError(f"'{host}' is no host; write example.org, without scheme and port")
        return tuple(host.lower() for host in hosts)


class LimitsConfig(StrictModel):
    """What one request, and one client, may ask for. None is no limit.

    A client is a key or, without keys, an address.

    Attributes:
        max_body_bytes: of one request, checked before it is parsed.
        body_deadline_s: in which a whole body must have arrived.
        max_images: of one request.
        max_image_bytes: of one encoded picture.
        max_image_pixels: of one picture, by its header, before it is decoded.
        max_total_pixels: of all pictures of one request.
        decode_threads: pictures that are decoded at the same time; each takes up to 30 bytes per
            pixel meanwhile.
        decode_deadline_s: of one picture.
        max_text_chars: of all texts of one request, those that end the answer included. Far more
            JSON values than that (100,000) are refused before they are parsed.
        max_turns: of one conversation, empty ones included.
        max_new_tokens: the most that a request may ask for.
        max_in_flight: requests under way in one process that parses them; more are refused, before
            their bodies are read. Raise it with the pools: to the batch size times `batches` of
            all small replicas, or somewhat more. Far above that the pools refuse instead, later and
            at a price that those pay who are answered.
        max_in_flight_bytes: of these: two for each byte of a body, which lies beside what is read
            of it, then a picture's address beside the picture; the encoded pictures that are
            fetched; three for each pixel. Unpacking the address takes two copies more of it in each
            of `decode_threads`, which do not count.
        requests_per_minute: of one client.
        tokens_per_minute: of one client, of prompts and answers.
        deadline_s: a request without one of its own ends after so long; none may ask for more.
        send_deadline_s: a client that takes nothing of its answer for so long has gone.
    """

    max_body_bytes: int = Field(default=32 << 20, ge=1)
    body_deadline_s: float = Field(default=20.0, gt=0)
    max_images: int = Field(default=8, ge=1)
    max_image_bytes: int = Field(default=20 << 20, ge=1)
    max_image_pixels: int = Field(default=40_000_000, ge=1)
    max_total_pixels: int = Field(default=80_000_000, ge=1)
    decode_threads: int = Field(default=2, ge=1)
    decode_deadline_s: float = Field(default=10.0, gt=0)
    max_text_chars: int = Field(default=100_000, ge=1)
    max_turns: int = Field(default=64, ge=1)
    max_new_tokens: int = Field(default=1024, ge=1)
    max_in_flight: int = Field(default=64, ge=1)
    max_in_flight_bytes: int = Field(default=1 << 30, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    deadline_s: float = Field(default=60.0, gt=0)
    send_deadline_s: float = Field(default=30.0, gt=0)


class ServeConfig(StrictModel):
    """One endpoint.

    Attributes:
        name: of the pair, as clients write it: "pair", "pair:small", "pair:large", "pair@0.9" or,
            of a policy, "pair@careful".
        threshold: exit score from which the small model's answer stands, unless a request says
            otherwise.
        policies: files of calibrated policies, by the name that clients choose them by.
        policy: of these, the one that counts where a request names none; decides threshold and
            pruning.
        clients_choose: whether requests may bring a threshold or a pruning of their own.
        degrade: what happens to a request that should escalate while the large pool is down.
        restart_wait_s: a request whose replica has died waits so long for another one; so does one
            that should escalate, where `degrade` is error.
        keys: file of the API keys' hashes, from `sgl key`; None lets everybody in.
        http: pictures are fetched over http(s) as this allows; None refuses all addresses but
            data: ones.
        drain_s: requests under way have so long at the end.
        deploy: what `sgl deploy render` makes of the endpoint; the endpoint does not look at it.
    """

    name: str = Field(default="pair", pattern=_NAME)
    models: PairConfig
    threshold: float | None = Field(default=None, ge=0)
    guidance: GuidanceConfig = GuidanceConfig()
    pruning: PruningConfig = PruningConfig()
    decoding: DecodingConfig = DecodingConfig()
    policies: dict[str, str] = Field(default_factory=dict)
    policy: str | None = None
    clients_choose: bool = True
    degrade: Degrade = Degrade.ERROR
    pools: ServePoolsConfig = ServePoolsConfig()
    listen: ListenConfig = ListenConfig()
    limits: LimitsConfig = LimitsConfig()
    restart_wait_s: float = Field(default=20.0, ge=0)
    keys: str | None = None
    http: HttpConfig | None = None
    drain_s: float = Field(default=30.0, gt=0)
    pricing: PricingConfig | None = None
    logs: LogsConfig = LogsConfig()
    storage: StorageConfig = StorageConfig()
    ray: RayConfig = RayConfig()
    deploy: DeployConfig | None = None

    @model_validator(mode="after")
    def _default_within_limit(self) -> "ServeConfig":
        default, most = self.decoding.max_new_tokens, self.limits.max_new_tokens
        if default > most:
            raise ValueError(
                f"decoding.max_new_tokens: {default} is above limits.max_new_tokens, {most}; lower "
                "the one, or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _one_threshold(self) -> "ServeConfig":
        if self.policy is None and self.threshold is None:
            raise ValueError("threshold: write a number from 0 to 1, or the name of a policy")
        if self.policy is not None and self.policy not in self.policies:
            raise ValueError(f"policy: there is no '{self.policy}' among policies")
        if self.policy is not None and self.threshold is not None:
            raise ValueError("threshold: the policy decides it; leave one out")
        return self
