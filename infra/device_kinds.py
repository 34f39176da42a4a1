"""Kinds of devices that have a price, and the names by which they are met."""

import re
from enum import StrEnum


class DeviceKind(StrEnum):
    """What a price is of: one whole GPU, or one vCPU."""

    B200 = "b200"
    H200 = "h200"
    H100 = "h100"
    H100_NVL = "h100-nvl"
    H100_PCIE = "h100-pcie"
    A100_80GB = "a100-80gb"
    A100_40GB = "a100-40gb"
    L40S = "l40s"
    L4 = "l4"
    A10G = "a10g"
    A10 = "a10"
    T4 = "t4"
    V100 = "v100"
    CPU = "cpu"


_NAMES = {
    DeviceKind.B200: r"b200",
    DeviceKind.H200: r"h200",
    DeviceKind.H100: r"h100(-80gb(-hbm3)?)?",
    DeviceKind.H100_NVL: r"h100-nvl",
    DeviceKind.H100_PCIE: r"h100-pcie|h100-80gb-hbm2e",
    DeviceKind.A100_80GB: r"a100-((sxm4?|pcie)-)?80gb?|a100-80gb-pcie",
    DeviceKind.A100_40GB: r"a100-((sxm4?|pcie)-)?40gb?",
    DeviceKind.L40S: r"l40s",
    DeviceKind.L4: r"l4",
    DeviceKind.A10G: r"a10g",
    DeviceKind.A10: r"a10",
    DeviceKind.T4: r"t4",
    DeviceKind.V100: r"v100(-(sxm[23]|pcie|fhhl|dgxs)-(16|32)gb)?",
    DeviceKind.CPU: r"cpu",
}
"""Of whole names, in lower case, with hyphens for blanks and without the maker's name."""
_PREFIX = re.compile(r"^(accelerator_type:)?(nvidia-)?(tesla-)?")


def device_kind(name: str) -> DeviceKind | None:
    """The kind of a device that somebody else has named.

    Only a name known in full counts, because names are prefixes of each other's (L4 and L40S, A10
    and A100, T4 and T4G) and a wrong kind is a wrong bill. None also for slices of a GPU (MIG,
    vGPU), which cost a share of one, and for "A100" alone, which may have 40 or 80 GB.

    Args:
        name: as torch or nvidia-smi has it ("NVIDIA A100-SXM4-40GB"), as Ray's accelerator type or
            resource ("A100-80G", "accelerator_type:H100"), or a kind's own.
    """
    plain = _PREFIX.sub("", re.sub(r"\s+", "-", name.strip().lower()), count=1)
    return next((kind for kind, names in _NAMES.items() if re.fullmatch(names, plain)), None)
