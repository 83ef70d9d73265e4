"""A CUDA device for tests on a machine without one: all of its rules, none of its values.

Its tensors have a shape, a dtype and the device "cuda:0", but no values. Streams, events and graphs
are stand-ins that write down what is launched on them, and two modes watch every call of torch. A
broken rule raises `DeviceMisuse`, which says what is wrong:

- an operation on tensors of both devices, such as a CPU index into a CUDA tensor;
- a copy with non_blocking=True from or to memory that is not pinned;
- while a graph is captured: a CPU tensor, a random operation, a wait;
- a result whose shape depends on values, such as that of nonzero or of a mask as an index;
- after `torch.cuda.set_sync_debug_mode("error")`: anything else that makes the host wait for the
  device, except an event's `synchronize`, which waits on purpose.

What the host reads from the device is made up: floats are 0, all other values 1. So all pixels are
1 and all latents finite. Until a copy to the host has finished, its target holds NaN or 0.

How to use it: `harness.fake_cuda` gives a test the device, a `streams.Device`. Its attributes say
what has been launched and decide when work finishes and whether it fails.

What it cannot see, so that only a real device can tell:

- values: whether kernels, samplers or pictures are right, and whether two runs agree;
- kernels: whether one exists for a dtype, a shape or an attention backend, and which one runs;
- races: streams keep their order and honour waits, but a missing wait or record_stream changes
  nothing here. A replayed graph is not run again, so nobody notices if it reads stale memory;
- memory: how much there is and what takes it, the allocators' reuse of blocks, the graphs' private
  pools. It runs out where a test says so;
- time: every kernel takes `KERNEL_S`, whatever it computes, and launching takes none;
- the driver: what else a capture forbids, faults that surface later than the call that caused
  them, errors of cuBLAS and cuDNN;
- other threads: only the one that entered `fake_cuda` is watched. Another that uses a tensor of the
  device gets a `DeviceMisuse`;
- autograd, torch.compile, Triton, several devices.
"""
