"""Roots of machines whose /proc and /sys hold what boards showed."""

from __future__ import annotations

from pathlib import Path

RECORDED = Path(__file__).parent.parent / "recorded/board"


def write(root: Path, files: dict[str, str]) -> Path:
    """Make ``files`` below ``root``, each with a line end as the kernel's."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def orin_nano(root: Path) -> Path:
    """An Orin Nano Super under JetPack 6, with the figures of sysfs/orin-nano-super.txt."""
    lines = (RECORDED / "sysfs/orin-nano-super.txt").read_text().splitlines()
    told = {name: rest for name, _, rest in (line.partition(" ") for line in lines)}
    now, most = told["gpu_hz"].split()
    files = {
        "proc/device-tree/model": told["model"] + "\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        "sys/class/devfreq/17000000.gpu/cur_freq": now,
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/max_freq": most,
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone1/temp": told["temp_gpu"],
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
        "sys/class/thermal/thermal_zone2/temp": "-256000",
        "sys/class/hwmon/hwmon1/name": "ina3221",
        "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages",
        "sys/class/hwmon/hwmon1/in7_input": "31",
        "sys/class/hwmon/hwmon1/curr4_input": "3800",
        "sys/class/hwmon/hwmon0/name": "pwmfan",
        "sys/class/hwmon/hwmon3/name": "soctherm_oc",
        "var/lib/nvpmodel/status": "pmode:0002",
    }
    for channel, rail in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1):
        volt, current = told[f"rail_{rail}"].split()
        files[f"sys/class/hwmon/hwmon1/in{channel}_label"] = rail
        files[f"sys/class/hwmon/hwmon1/in{channel}_input"] = volt
        files[f"sys/class/hwmon/hwmon1/curr{channel}_input"] = current
        files[f"sys/class/hwmon/hwmon3/oc{channel}_event_cnt"] = "0"
    return write(root, files)


def thor(root: Path) -> Path:
    """A Thor: INA3221 for the module's rails and INA238 for what the carrier takes in."""
    rails = {"VDD_GPU": 1965, "VDD_CPU_SOC_MSS": 6292, "VIN_SYS_5V0": 6360}
    files = {
        "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,tegra264\0",
        "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000",
        "sys/class/devfreq/gpu-gpc-0/min_freq": "1575000000",
        "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000",
        "sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000",
        "sys/class/devfreq/bwmgr/cur_freq": "4266000000",
        "sys/class/thermal/thermal_zone0/type": "tj-thermal",
        "sys/class/thermal/thermal_zone0/temp": "36843",
        "sys/class/thermal/cooling_device10/type": "gpu-throttle-alert",
        "sys/class/thermal/cooling_device10/cur_state": "0",
        "sys/class/hwmon/hwmon2/name": "ina238",
        "sys/class/hwmon/hwmon2/in1_label": "VIN",
        "sys/class/hwmon/hwmon2/in1_input": "19700",
        "sys/class/hwmon/hwmon2/curr1_input": "1046",
        "sys/class/hwmon/hwmon2/power1_input": "20604000",
        "sys/class/hwmon/hwmon3/name": "ina3221",
    }
    for channel, (rail, power) in enumerate(rails.items(), 1):
        files[f"sys/class/hwmon/hwmon3/in{channel}_label"] = rail
        files[f"sys/class/hwmon/hwmon3/in{channel}_input"] = "1000"
        files[f"sys/class/hwmon/hwmon3/curr{channel}_input"] = str(power)
    return write(root, files)


def nano(root: Path) -> Path:
    """A Nano under JetPack 4: the monitor is an iio device, in mW."""
    place = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    rails = {"POM_5V_IN": 4122, "POM_5V_GPU": 109, "POM_5V_CPU": 1167}
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
        "proc/device-tree/compatible": "nvidia,p3449-0000-b00+p3448-0000-b00\0nvidia,tegra210\0",
        "sys/class/devfreq/57000000.gpu/cur_freq": "921600000",
        "sys/class/devfreq/57000000.gpu/min_freq": "76800000",
        "sys/class/devfreq/57000000.gpu/max_freq": "921600000",
        "sys/class/thermal/thermal_zone1/type": "CPU-therm",
        "sys/class/thermal/thermal_zone1/temp": "44000",
        "sys/class/thermal/thermal_zone4/type": "PMIC-Die",
        "sys/class/thermal/thermal_zone4/temp": "100000",
    }
    for channel, (rail, power) in enumerate(rails.items()):
        files[f"{place}/rail_name_{channel}"] = rail
        files[f"{place}/in_power{channel}_input"] = str(power)
    return write(root, files)
