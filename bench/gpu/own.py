"""This library on PyTorch's tensors: device pointers as borrowed arrays, PyTorch's stream, the primary context they share."""

import attention as attn
import measure
import restarts


class Setting:
    """Where everything runs: a device of PyTorch's and the library's context on it."""

    def __init__(self, torch, device, seed=1, small=False):
        self.torch, self.device, self.small = torch, torch.device(device), small
        self.on_gpu = self.device.type == "cuda"
        self.library = attn.Library()
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.flex, self.flex_turn, self.flex_wanted = None, False, lambda: True
        self.stream, self.watch, self.left_out, self.fatal = None, restarts.Watch(), {}, restarts.Fatal(None)
        if self.on_gpu:
            torch.cuda.init()
            torch.zeros(1, device=self.device)  # the primary context is there and current
            self.context = attn.Context(self.library, attn.CUDA, self.device.index or 0)
            self.torch_stream = torch.cuda.Stream()
            torch.cuda.set_stream(self.torch_stream)
            self.stream = self.context.wrap_stream(self.torch_stream.cuda_stream)
        else:
            self.context = attn.Context(self.library, attn.CPU, workers=2)
        self.dtypes = {torch.float32: attn.FLOAT32, torch.float16: attn.FLOAT16, torch.bfloat16: attn.BFLOAT16, torch.int32: attn.INT32,
                       torch.uint8: attn.UINT8, torch.bool: attn.UINT8}

    def normal(self, *shape, dtype):
        return self.torch.randn(*shape, generator=self.generator, device=self.device).to(dtype)

    def ints(self, values):
        return self.torch.tensor(values, dtype=self.torch.int32, device=self.device)

    def synchronize(self):
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def free_bytes(self):
        """Of the device's memory; what a look on a CPU may take."""
        return self.torch.cuda.mem_get_info()[0] if self.on_gpu else 1 << 30

    def group(self, name, description):
        name += ", flex" if self.flex_turn else ""
        return measure.Group(name, description, self.synchronize, self.watch, self.left_out.get(name))

    def begin(self, plan):
        """The plan's first use: its kernel is compiled, unless it is known to end what runs it."""
        kernel = plan.kernel()
        self.fatal.forbid(kernel)
        self.watch.runs(kernel)
        plan.warm_up()
        self.watch.within(20)  # it is compiled

    def prepare(self, mask):
        """A prepared mask. It is copied as it lies there now, not as PyTorch's stream will leave it."""
        self.synchronize()
        return self.context.prepare(mask)

    def array(self, tensor):
        """The tensor as a borrowed array; the tensor must outlive it."""
        a = attn.array(self.dtypes[tensor.dtype], list(tensor.shape), tensor.data_ptr(), list(tensor.stride()), attn.CUDA if self.on_gpu else attn.CPU,
                       self.context.device if self.on_gpu else 0)
        a.kept = tensor
        return a

    def backwards(self, tensor):
        """The same elements, the last head (or batch) first in memory: a stride that no tensor map can express, so that Hopper takes its mma.sync kernel."""
        dimension = 1 if tensor.shape[1] > 1 else 0
        if tensor.shape[dimension] < 2:
            raise ValueError("one head of one batch has no stride to turn round")
        turned = tensor.flip(dimension).contiguous()
        a = self.array(turned)
        a.strides[dimension] = -turned.stride(dimension)
        a.data = turned.data_ptr() + (turned.shape[dimension] - 1) * turned.stride(dimension) * turned.element_size()
        return a


class Dense:
    """A keep mask that is another one at every run: two copies at two addresses, and a visible byte that changes its value."""

    def __init__(self, setting, mask):
        self.setting = setting
        self.copies = [mask.to(setting.torch.uint8), mask.to(setting.torch.uint8)]
        visible = mask.reshape(-1).nonzero().reshape(-1)
        self.places = visible[:: max(1, len(visible) // 64)][:64].tolist() if len(visible) else []
        self.turn = 0

    def change(self):
        self.turn += 1
        if self.places:
            self.copies[self.turn % 2].view(-1)[self.places[self.turn % len(self.places)]] = self.turn % 255 + 1

    def bytes(self):
        return self.copies[0].numel()


class Own:
    """A planned run. `dense`: a keep mask, given as it is (every run makes the pass) or prepared; `backwards`: by flash_sm80 on Hopper."""

    def __init__(self, setting, q, k, v, sight=None, dense=None, prepared=False, backwards=False):
        self.setting, self.dense, self.prepared = setting, dense, prepared
        torch = setting.torch
        self.o = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype, device=q.device)
        arrays = [setting.array(q), setting.backwards(k) if backwards else setting.array(k), setting.array(v), setting.array(self.o)]
        if dense is not None:
            masks = [attn.Mask(keep=setting.array(copy)) for copy in dense.copies]
        else:
            masks = [sight.make_mask(setting.array) if sight else None]
        problem = attn.problem(setting.dtypes[q.dtype], *arrays, mask=masks[0])
        refusals = setting.context.refusals(problem, attn.FLASH)
        if refusals:
            raise RuntimeError("; ".join(refusals))
        self.plan = setting.context.plan(problem, attn.FLASH)
        setting.begin(self.plan)
        handle = setting.prepare(masks[0]) if prepared else None
        self.args = [attn.run_args(*arrays, mask=mask, prepared=handle, stream=setting.stream) for mask in masks]
        info = self.plan.describe()
        self.kernel, self.reason, self.key_chunk = info.kernel.decode(), info.reason.decode(), info.key_chunk
        if backwards and setting.on_gpu and "flash_sm80" not in self.kernel:
            raise RuntimeError(f"{self.kernel} took keys that lie backwards; flash_sm80 was to")

    def before(self):
        if self.dense is not None and not self.prepared:
            self.dense.change()

    def call(self):
        turn = self.dense.turn if self.dense is not None and not self.prepared else 0
        self.plan.run(self.args[turn % len(self.args)])

    def share(self):
        """The share of tiles that are visited."""
        tiles = self.plan.tiles(self.args[0])
        return (tiles.full + tiles.partial) / (tiles.full + tiles.partial + tiles.empty)

    def passes(self):
        return self.setting.library.counters().mask_passes

    def subject(self, name, judge=None):
        def check():
            self.before()
            self.o.fill_(float("nan"))
            self.call()
            self.setting.synchronize()
            return judge(self.o)

        unprepared = self.dense is not None and not self.prepared
        return measure.Subject(name, self.call, self.before, check if judge else None, self.kernel, self.passes if unprepared else None)
