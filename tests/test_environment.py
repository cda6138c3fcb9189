"""The report for bug reports."""

import subprocess
import sys

import torch

import amdm


def test_it_prints_versions_and_devices_and_loads_no_extra():
    code = "import runpy, sys; runpy.run_module('amdm.environment', run_name='__main__')"
    code += "; assert not {'diffusers', 'k_diffusion', 'transformers'} & set(sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = told.stdout.splitlines()
    assert lines[0] == f"amdm {amdm.__version__}"
    assert f"torch {torch.__version__}" in lines
    assert any(line.startswith("device cpu") and "float32, bfloat16" in line for line in lines)
