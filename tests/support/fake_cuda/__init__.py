"""A CUDA device that a machine without one can test against: all rules, no values.

Tensors on it are torch's FakeTensors: they have a shape, a dtype and the device "cuda:0", but no
values. Streams, events and graphs are stand-ins that write down what is launched on them, and two
modes watch every call of torch. What breaks a rule of the device raises `DeviceMisuse`, which says
what is wrong:

- an operation on tensors of both devices, such as a CPU index into a CUDA tensor;
- a copy with non_blocking=True from or to memory that is not pinned;
- while a graph is captured: a CPU tensor, a random operation, a wait;
- after `torch.cuda.set_sync_debug_mode("error")`: anything that makes the host wait for the device,
  except for an event's `synchronize`, which is a wait on purpose.

What reaches the host from the device is made up: every float is 0, every other value 1, so that
all pixels are 1 and all latents finite. Until a copy has finished, its target holds NaN or 0.

What it cannot see, so that only a real device can tell:

- values: whether kernels, samplers or pictures are right, and whether two runs agree;
- whether a kernel exists for a dtype, a shape or an attention backend, and which one runs;
- races: streams keep their order and honour waits, but a wait or a record_stream that is missing
  changes nothing here. Work in a replayed graph is not run again, so stale inputs go unnoticed;
- memory: its size, its peak, fragmentation, the caching allocators' reuse of blocks, the private
  pools of graphs. It runs out where a test says so;
- time: every kernel takes `KERNEL_S`, whatever it computes;
- what the driver refuses: a capture's limits beyond those above, faults that surface later than
  at the call that caused them;
- other threads: torch's modes hold for the thread that entered them, so a tensor of another thread
  goes unwatched;
- torch.compile, Triton, libraries that call CUDA directly, several devices.
"""
