"""What ncu looks at: the two flash kernels at 4 x 16 heads of 128, 4096 x 4096, and a dense mask's pass, each once after a warm-up. No package is needed."""

import ctypes as c
import random
import struct
import sys

import attention as attn


def main(S):
    library = attn.Library()
    count, why = library.devices(attn.CUDA)
    if not count:
        print(f"two_kernels.py: no CUDA device: {why}")
        return 3
    context = attn.Context(library, attn.CUDA, 0)
    B, H, D = 4, 16, 128
    generator = random.Random(1)
    piece = struct.pack("<65536e", *(generator.gauss(0, 1) for _ in range(65536)))
    tensors = []

    def tensor(dtype, shape, filled):
        description, handle, known = attn.array(dtype, shape, None, device_type=attn.CUDA), c.c_void_p(), attn.Array()
        library.call("tensor_create", context.handle, c.byref(description), c.byref(handle))
        size = attn.BYTES[dtype]
        for n in shape:
            size *= n
        data = (filled * (size // len(filled) + 1))[:size]
        library.call("tensor_upload", handle, data, c.c_uint64(size))
        library.call("tensor_describe", handle, c.byref(known))
        known.tensor = None
        tensors.append(handle)
        return known

    q, k, v, o = (tensor(attn.FLOAT16, (B, H, S, D), piece) for _ in range(4))
    keep = tensor(attn.UINT8, (B, 1, S, S), bytes(generator.getrandbits(1) for _ in range(65536)))
    step = S * D
    backwards = attn.array(attn.FLOAT16, (B, H, S, D), k.data + (H - 1) * step * 2, (H * step, -step, D, 1), attn.CUDA)
    for keys, mask in ((k, None), (backwards, None), (k, attn.Mask(keep=keep))):
        plan = context.plan(attn.problem(attn.FLOAT16, q, keys, v, o, mask=mask))
        plan.warm_up()
        args = attn.run_args(q, keys, v, o, mask=mask)
        plan.run(args)
        print(plan.kernel(), "with a dense keep" if mask else "")
        plan.destroy()
    for handle in tensors:
        library.call("tensor_destroy", handle)
    context.destroy()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4096))
