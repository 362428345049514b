"""How long a plan's first warm-up takes: the kernel is compiled, or found in the cache, and loaded. As a program: one process's answer, as JSON."""

import json
import os
import pathlib
import subprocess
import sys
import time

import attention as attn


def shapes():
    """(name, problem) of one kernel each: no mask and a dense keep, on Hopper's own kernel where there is one."""
    for D in (64, 128, 256):
        for masked in (False, True):
            p = attn.Problem(dtype=attn.BFLOAT16, mask_kinds=attn.KEEP if masked else 0, batch=1, query_heads=1, key_heads=1, queries=256, keys=256, head_dim=D,
                             value_dim=D)
            if masked:
                p.keep_shape[:] = [1, 1, 256, 256]
            yield f"d{D}{', keep' if masked else ''}", p


def here():
    """Milliseconds of each warm-up in this process."""
    library = attn.Library()
    context = attn.Context(library, attn.CUDA, 0)
    for name, problem in shapes():
        plan = context.plan(problem)
        begun = time.perf_counter()
        plan.warm_up()
        yield f"{plan.kernel()} ({name})", (time.perf_counter() - begun) * 1e3


def in_a_fresh_process(cache_folder):
    environment = dict(os.environ, ATTENTION_CACHE=str(cache_folder))
    done = subprocess.run([sys.executable, str(pathlib.Path(__file__).resolve())], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"first_use.py ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(list(here())))
