import pytest

from infra.device_kinds import DeviceKind, device_kind

NAMES = {
    # As torch and nvidia-smi have them.
    "NVIDIA B200": "b200",
    "NVIDIA H200": "h200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 80GB HBM2e": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA A100-SXM-80GB": "a100-80gb",
    "NVIDIA A100 80GB PCIe": "a100-80gb",
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-PCIE-40GB": "a100-40gb",
    "NVIDIA L40S": "l40s",
    "NVIDIA L4": "l4",
    "NVIDIA A10G": "a10g",
    "NVIDIA A10": "a10",
    "Tesla T4": "t4",
    "Tesla V100-SXM2-16GB": "v100",
    "Tesla V100-SXM2-32GB": "v100",
    "Tesla V100-PCIE-16GB": "v100",
    # As Ray, Google Cloud and Kubernetes' labels have them.
    "H100": "h100",
    "accelerator_type:H100": "h100",
    "accelerator_type:A100-80G": "a100-80gb",
    "A100-40G": "a100-40gb",
    "A10G": "a10g",
    "L4": "l4",
    "L40S": "l40s",
    "T4": "t4",
    "V100": "v100",
    "nvidia-tesla-t4": "t4",
    "nvidia-l4": "l4",
    "nvidia-h100-80gb": "h100",
    "NVIDIA-H100-80GB-HBM3": "h100",
    " nvidia  l4\n": "l4",
    "CPU": "cpu",
}

STRANGERS = [
    "NVIDIA L40",
    "NVIDIA L40G",
    "NVIDIA L400",
    "NVIDIA H20",
    "NVIDIA H800",
    "NVIDIA GH200 480GB",
    "NVIDIA GB200",
    "NVIDIA A800-SXM4-80GB",
    "NVIDIA A100X",
    "NVIDIA A1000",
    "NVIDIA T4G",
    "NVIDIA T400",
    "NVIDIA T1000",
    "Tesla P100-PCIE-16GB",
    "Tesla V100S-PCIE-32GB",
    "NVIDIA GeForce RTX 4090",
    "AMD Instinct MI300X",
    "TPU-V4",
    # Of either memory.
    "A100",
    "accelerator_type:A100",
    # Slices.
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
    "MIG 1g.5gb",
    "NVIDIA A10-24Q",
    "GRID T4-16Q",
    "",
]


@pytest.mark.parametrize(("name", "kind"), NAMES.items())
def test_a_device_is_known_by_its_names(name: str, kind: str) -> None:
    assert device_kind(name) == DeviceKind(kind)


@pytest.mark.parametrize("name", STRANGERS)
def test_what_only_resembles_a_known_device_is_none(name: str) -> None:
    assert device_kind(name) is None


@pytest.mark.parametrize("kind", DeviceKind)
def test_a_kind_is_known_by_its_own_name(kind: DeviceKind) -> None:
    assert device_kind(kind) is kind


def test_of_rays_names_those_of_priced_gpus_are_known() -> None:
    """A name that Ray adds is either a stranger or belongs here."""
    from ray.util import accelerators

    told = {name for name in vars(accelerators.accelerators).values() if isinstance(name, str)}
    assert {name for name in told if device_kind(name)} == {
        *("B200", "H200", "H100", "A100-80G", "A100-40G", "L40S", "L4", "A10G", "T4", "V100")
    }
